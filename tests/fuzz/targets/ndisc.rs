//! Any bytes as an IPv6 packet: no panic, and a neighbor advertisement that is taken is written back and read to the
//! same value.
//!
//! The first byte chooses whether an IPv6 header is put before the rest, and whether the checksum is made right:
//! mutation alone would hardly ever find lengths and sums that hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vipd::types::MacAddr;
use vipd::wire::ndisc::{NdiscError, NeighborAdvertisement};

const WITH_HEADER: u8 = 1;
const WITH_CHECKSUM: u8 = 2;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let mut bytes = if choice & WITH_HEADER == 0 { rest.to_vec() } else { with_header(rest) };
    let mut parsed = NeighborAdvertisement::parse(&bytes);
    if let (Err(NdiscError::BadChecksum { expected, .. }), WITH_CHECKSUM) = (parsed, choice & WITH_CHECKSUM) {
        bytes[42..44].copy_from_slice(&expected.to_be_bytes());
        parsed = NeighborAdvertisement::parse(&bytes);
        assert!(!matches!(parsed, Err(NdiscError::BadChecksum { .. })), "the checksum that was expected is refused");
    }
    if let Ok(advertisement) = parsed {
        let mut frame = vec![0xa5; 64];
        advertisement.emit(MacAddr(2, 0, 0, 0, 0, 1), &mut frame);
        assert_eq!(NeighborAdvertisement::parse(&frame[14..]), Ok(advertisement));
    }
});

/// A message to all nodes.
fn with_header(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut bytes = vec![0x60, 0, 0, 0, length[0], length[1], 58, 255];
    bytes.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend(message);
    bytes
}
