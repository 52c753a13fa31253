//! Drains and their ends, whose askers are answered when it is clear what came of them.

use std::mem;
use std::time::Duration;

use tokio::sync::oneshot;

use super::EventLoop;
use crate::daemon::clock;
use crate::daemon::memory::{Changed, ChangedVip, Waiting};
use crate::daemon::message::HoldChange;
use crate::engine::{Hold, HoldReason, Input, Instant, Vip};

/// How long who changes a hold waits for what comes of it.
const SETTLING: Duration = Duration::from_secs(1);

impl EventLoop {
    pub(super) fn on_hold_change(
        &mut self,
        now: Instant,
        name: Option<&str>,
        change: HoldChange,
        answer: oneshot::Sender<Option<Changed>>,
    ) {
        let known = self.engine.vips().iter().find(|vip| Some(vip.settings().name.as_str()) == name).map(Vip::id);
        if name.is_some() && known.is_none() {
            // One that has left does not want to know.
            answer.send(None).ok();
            return;
        }
        let input = match change {
            HoldChange::Drain { time } => {
                let hold = Hold { reason: HoldReason::Drained, until: time.map(|time| now + time) };
                Input::Hold { vip: known, hold }
            }
            HoldChange::Undrain => Input::Release { vip: known },
        };
        self.engine.handle(now, input);
        self.settling.push((known, now + SETTLING, answer));
    }

    /// Who changed a hold is answered when it is clear what came of it: a drain may be a handover first. For one that waits for a hook of
    /// the successor he does not wait.
    pub(super) fn answer_settled(&mut self) {
        let now = clock::now();
        for (known, latest, answer) in mem::take(&mut self.settling) {
            let concerned = || self.engine.vips().iter().filter(|vip| known.is_none_or(|known| known == vip.id()));
            if now < latest && concerned().any(Vip::is_leaving) {
                self.settling.push((known, latest, answer));
            } else {
                let vips = concerned().map(ChangedVip::of).collect();
                self.waiting.push(Waiting { answer, changed: Changed { vips, not_saved: None } });
            }
        }
    }
}
