//! What a spread promises, in names and numbers; how it fares when nodes die is in the simulator.

use alloc::format;

use super::*;

type Orders = BTreeMap<String, Vec<String>>;

fn nodes(weights: &[u8]) -> BTreeMap<String, u8> {
    weights.iter().enumerate().map(|(place, weight)| (format!("node{place}"), *weight)).collect()
}

fn vips(count: usize) -> BTreeSet<String> {
    (1..=count).map(|number| format!("vip{number}")).collect()
}

/// How many vips each of the nodes has while some are dead.
fn shares(orders: &Orders, nodes: &BTreeMap<String, u8>, dead: &[&String]) -> BTreeMap<String, u64> {
    let mut shares: BTreeMap<String, u64> =
        nodes.keys().filter(|name| !dead.contains(name)).map(|name| (name.clone(), 0)).collect();
    for order in orders.values() {
        let owner = order.iter().find(|name| !dead.contains(name)).expect("somebody lives");
        *shares.get_mut(owner).expect("it is a node") += 1;
    }
    shares
}

/// By how many vips the node that is farthest from its exact share is above it, rounded up, or below it, rounded down.
fn unevenness(orders: &Orders, nodes: &BTreeMap<String, u8>, dead: &[&String]) -> u64 {
    let shares = shares(orders, nodes, dead);
    let is_weightless = shares.keys().all(|name| nodes[name] == 0);
    let weight = |name: &String| if is_weightless { 1 } else { u64::from(nodes[name]) };
    let total: u64 = shares.keys().map(weight).sum();
    let count = u64::try_from(orders.len()).unwrap();
    let off = shares.iter().map(|(name, has)| {
        let exact = count * weight(name);
        has.saturating_sub(exact.div_ceil(total)).max((exact / total).saturating_sub(*has))
    });
    off.max().unwrap()
}

/// Which vips, of those that are in both, are at another node.
fn moved(before: &Orders, after: &Orders) -> u64 {
    let other = |(vip, order): &(&String, &Vec<String>)| after.get(*vip).is_some_and(|now| now[0] != order[0]);
    u64::try_from(before.iter().filter(other).count()).unwrap()
}

fn spread_of(weights: &[(&str, u8)], vips: &[&str]) -> Vec<String> {
    let nodes = weights.iter().map(|(name, weight)| ((*name).to_string(), *weight)).collect();
    let vips = vips.iter().map(|vip| (*vip).to_string()).collect();
    orders("dns", &nodes, &vips).iter().map(|(vip, order)| format!("{vip}: {}", order.join(" "))).collect()
}

/// Two versions of vipd that do not agree would both prefer themselves. These values may never change.
#[test]
fn the_order_is_for_ever() {
    assert_eq!([hash([""]), hash(["a", "b"])], [0xaf63_bd4c_8601_b7df, 0xab40_d782_0d40_8076]);
    assert_eq!([mixed(1), mixed(u64::MAX)], [0xb456_bcfc_34c2_cb2c, 0x64b5_720b_4b82_5f21]);
    let dns = ["dns1", "dns2", "dns3", "dns4"];
    let expected = ["dns1: a b c", "dns2: b a c", "dns3: c a b", "dns4: a c b"];
    assert_eq!(spread_of(&[("a", 2), ("b", 1), ("c", 1)], &dns), expected);
    let expected = ["dns1: a b c spare", "dns2: b c a spare", "dns3: c b a spare", "dns4: a c b spare"];
    assert_eq!(spread_of(&[("a", 1), ("b", 1), ("c", 1), ("spare", 0)], &dns), expected);
    let hosts = [("host-1", 1), ("host-2", 1), ("host-3", 2), ("host-4", 3), ("host-5.example.net", 100)];
    let expected = [
        "10.0.0.1: host-5.example.net host-4 host-2 host-3 host-1",
        "10.0.0.2: host-5.example.net host-4 host-1 host-3 host-2",
        "www: host-5.example.net host-3 host-2 host-1 host-4",
    ];
    assert_eq!(spread_of(&hosts, &["10.0.0.1", "10.0.0.2", "www"]), expected);
    let large = orders("large", &nodes(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0]), &vips(200));
    assert_eq!(hash(large.values().flatten().map(String::as_str)), 14_165_818_404_527_684_575);
}

#[test]
fn the_priorities_end_where_the_nodes_do() {
    let all: Vec<u8> = (0..MAX_NODES).map(|place| priority(place).expect("there is room").0).collect();
    assert_eq!(all, [240, 220, 200, 180, 160, 140, 120, 100, 80, 60, 40, 20]);
    assert_eq!(priority(MAX_NODES), None);
    assert_eq!(priority(usize::MAX), None);
}

#[test]
fn the_name_of_a_spread_moves_only_what_cannot_be_divided() {
    let nodes = nodes(&[1, 1, 1]);
    let names: Vec<String> = (0..20).map(|number| format!("spread {number}")).collect();
    let firsts = |name: &String| orders(name, &nodes, &vips(9)).into_values().map(|order| order[0].clone()).collect();
    let even: BTreeSet<Vec<String>> = names.iter().map(firsts).collect();
    assert_eq!(even.len(), 1);
    let odd = names.iter().map(|name| shares(&orders(name, &nodes, &vips(10)), &nodes, &[]));
    assert_eq!(odd.collect::<BTreeSet<_>>().len(), 3, "of many spreads not one node has each odd vip");
}

#[test]
fn the_largest_spread_is_no_burden() {
    let orders = orders("largest", &nodes(&[MAX_WEIGHT; MAX_NODES]), &vips(MAX_VIPS));
    assert_eq!(orders.len(), MAX_VIPS);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 200, ..Default::default() })]

    #[test]
    fn each_vip_has_each_node_once_and_those_without_weight_last(
        weights in proptest::collection::vec(0..7_u8, 1..9), count in 1..40_usize,
    ) {
        let nodes = nodes(&weights);
        let orders = orders("s", &nodes, &vips(count));
        proptest::prop_assert_eq!(orders.len(), count);
        for order in orders.values() {
            proptest::prop_assert_eq!(order.iter().collect::<BTreeSet<_>>(), nodes.keys().collect::<BTreeSet<_>>());
            proptest::prop_assert_eq!(order.len(), nodes.len());
            proptest::prop_assert!(order.is_sorted_by_key(|name| nodes[name] == 0), "{order:?}");
        }
    }

    /// Whoever is dead, if it is one: each live node has its exact share, rounded up or down. Of two it may be two off.
    #[test]
    fn shares_follow_the_weights_and_so_do_those_of_the_survivors(
        weights in proptest::collection::vec(0..7_u8, 2..9), count in 1..40_usize, name in "[a-z]{1,4}",
    ) {
        let nodes = nodes(&weights);
        let orders = orders(&name, &nodes, &vips(count));
        proptest::prop_assert_eq!(unevenness(&orders, &nodes, &[]), 0);
        for one in nodes.keys() {
            proptest::prop_assert_eq!(unevenness(&orders, &nodes, &[one]), 0, "{} is dead: {:?}", one, orders);
            for other in nodes.keys().filter(|other| one < *other && nodes.len() > 2) {
                proptest::prop_assert!(unevenness(&orders, &nodes, &[one, other]) <= 2, "{one}, {other}: {orders:?}");
            }
        }
    }

    #[test]
    fn one_more_vip_takes_none_away_from_any_node(
        weights in proptest::collection::vec(0..7_u8, 1..9), count in 1..40_usize,
    ) {
        let nodes = nodes(&weights);
        let numbers = |count| shares(&orders("s", &nodes, &vips(count)), &nodes, &[]);
        let (before, after) = (numbers(count), numbers(count + 1));
        proptest::prop_assert!(before.iter().all(|(name, has)| *has <= after[name]), "{before:?} {after:?}");
    }
}

/// What moves in some hundred changes of a file, and what must: the vips that a new node is given, or one that goes had.
#[test]
fn a_changed_file_moves_little_more_than_it_must() {
    let mut seed = 1_u64;
    let mut chance = |from: u64, to: u64| {
        seed = seed.wrapping_add(1);
        from + mixed(seed) % (to - from + 1)
    };
    let (mut by_nodes, mut least, mut by_vips) = (0, 0, 0);
    const CHANGES: u64 = 400;
    for _ in 0..CHANGES {
        let weights: Vec<u8> = (0..chance(2, 8)).map(|_| u8::try_from(chance(1, 5)).unwrap()).collect();
        let count = usize::try_from(chance(2, 40)).unwrap();
        let with = orders("s", &nodes(&weights), &vips(count));
        let (gone, others) = weights.split_last().expect("there are two at least");
        let without = orders("s", &nodes(others), &vips(count));
        let moves = moved(&with, &without);
        let share = with.values().filter(|order| order[0] == format!("node{}", others.len())).count();
        let share = u64::try_from(share).unwrap();
        let most = share + u64::try_from(weights.len()).unwrap();
        assert!((share..=most).contains(&moves), "{moves} of {count} moved, {share} had to; {others:?} and {gone}");
        (by_nodes, least) = (by_nodes + moves, least + share);
        let moves = moved(&with, &orders("s", &nodes(&weights), &vips(count + 1)));
        assert!(moves <= u64::try_from(weights.len()).unwrap(), "{moves} of {count} moved; {weights:?}");
        by_vips += moves;
    }
    assert!(by_nodes * 10 <= least * 15, "a node came or went: {by_nodes} moved, and {least} had to");
    assert!(by_vips * 2 <= CHANGES * 3, "{CHANGES} times a vip came or went, and {by_vips} others moved");
}
