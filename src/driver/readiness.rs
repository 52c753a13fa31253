//! Lets one task of the runtime wait for many kernel objects at once, and never miss that one became ready.
//!
//! The kernel tells only of changes from not ready to ready. Whoever reads a part and goes to sleep sleeps for ever; so
//! the one way to read here is to try, and only a source that is exhausted is waited for.
#![allow(unsafe_code)] // The runtime cannot know that a descriptor stays open; the trait below promises it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::task::{Context, Poll, ready};

use nix::sys::eventfd::EventFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::adverts::AdvertSocket;
use super::datagrams::DatagramSocket;
use super::echo::EchoSocket;
use super::error::context;
use super::timer::Timer;
use super::watch::ClaimSocket;

/// What owns a non-blocking descriptor.
///
/// # Safety
///
/// [`AsRawFd::as_raw_fd`] returns the same open descriptor for as long as the value lives.
pub unsafe trait OwnsFd: AsRawFd {}

// SAFETY: it owns one socket, which no method replaces or closes.
unsafe impl OwnsFd for AdvertSocket {}
// SAFETY: it owns one socket, which no method replaces or closes.
unsafe impl OwnsFd for ClaimSocket {}
// SAFETY: it owns one socket, which no method replaces or closes.
unsafe impl OwnsFd for DatagramSocket {}
// SAFETY: it owns one socket, which no method replaces or closes.
unsafe impl OwnsFd for EchoSocket {}
// SAFETY: it owns one timer, which no method replaces or closes.
unsafe impl OwnsFd for Timer {}
// SAFETY: the standard library's owners of a descriptor keep it until they are dropped.
unsafe impl OwnsFd for OwnedFd {}
// SAFETY: as above.
unsafe impl OwnsFd for UnixDatagram {}
// SAFETY: it owns one descriptor, which no method replaces or closes.
unsafe impl OwnsFd for EventFd {}

/// A source of events that a task can wait for. One task only: the last that asked is woken.
#[derive(Debug)]
pub struct Readable<T: OwnsFd> {
    source: AsyncFd<T>,
}

impl<T: OwnsFd> Readable<T> {
    /// Hands a source to the runtime of the calling thread, which must have its I/O driver enabled.
    ///
    /// # Errors
    ///
    /// Where the kernel cannot wait for such a source.
    pub fn new(source: T) -> io::Result<Self> {
        // SAFETY: `OwnsFd` promises what is required; the value stays inside until `AsyncFd` is dropped, which lets go of the
        // descriptor first.
        let source = unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) };
        let source = source.map_err(|error| context("wait for a descriptor")(error.into_parts().1))?;
        Ok(Self { source })
    }

    /// The source, for what needs no waiting.
    pub fn get_ref(&self) -> &T {
        self.source.get_ref()
    }

    /// Tries to take one thing from the source. `attempt` must say `Ok(None)`, or `WouldBlock`, exactly when the
    /// kernel does. Pending only when the source is exhausted; the task is woken when it no longer is.
    ///
    /// # Errors
    ///
    /// What `attempt` says.
    pub fn poll_take<'a, R>(
        &'a self,
        cx: &mut Context<'_>,
        attempt: impl FnOnce(&'a T) -> io::Result<Option<R>>,
    ) -> Poll<io::Result<R>> {
        let mut ready = ready!(self.source.poll_read_ready(cx))?;
        match attempt(self.source.get_ref()) {
            Ok(Some(taken)) => return Poll::Ready(Ok(taken)),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        // Forgets only the readiness seen before the attempt: what arrived since counts as new.
        ready.clear_ready();
        match self.source.poll_read_ready(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // It arrived since. The attempt is used up, so the task comes back for another.
            Poll::Ready(Ok(_)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<T: OwnsFd> AsRef<T> for Readable<T> {
    fn as_ref(&self) -> &T {
        self.get_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    #[test]
    fn no_message_is_missed_on_many_sources_in_one_task() {
        const EACH: usize = 20_000;
        runtime().block_on(async {
            let mut sources = Vec::new();
            for _ in 0..3 {
                let (sender, receiver) = UnixDatagram::pair().expect("a pair of sockets");
                receiver.set_nonblocking(true).expect("a flag");
                // Alternates between bursts and pauses, so that each message may find the reader anywhere.
                std::thread::spawn(move || {
                    for n in 0..EACH {
                        sender.send(&[1]).expect("the reader is there");
                        if n % 7 == 0 {
                            std::thread::yield_now();
                        }
                    }
                    // Open until the reader has gone, so that no end of stream wakes it.
                    std::thread::park_timeout(Duration::from_secs(60));
                    drop(sender);
                });
                sources.push(Readable::new(receiver).expect("registered"));
            }
            let mut received = 0;
            let mut buffer = [0; 8];
            let all = poll_fn(|cx| {
                for source in &sources {
                    while let Poll::Ready(len) = source.poll_take(cx, |socket| socket.recv(&mut buffer).map(Some)) {
                        received += len.expect("a message");
                    }
                }
                if received == sources.len() * EACH { Poll::Ready(()) } else { Poll::Pending }
            });
            tokio::time::timeout(Duration::from_secs(30), all).await.expect("every message wakes the task");
        });
    }

    #[test]
    fn a_timer_wakes_each_time_it_is_set() {
        runtime().block_on(async {
            let timer = Readable::new(Timer::open().expect("a timer")).expect("registered");
            for _ in 0..100 {
                timer.get_ref().set(Some(1)).expect("set");
                let fired = poll_fn(|cx| timer.poll_take(cx, |timer| Ok(timer.clear()?.then_some(()))));
                let fired = tokio::time::timeout(Duration::from_secs(5), fired).await;
                fired.expect("the timer wakes the task").expect("the timer can be read");
            }
        });
    }

    #[test]
    fn what_is_taken_may_stand_in_the_callers_buffer() {
        runtime().block_on(async {
            let (sender, receiver) = UnixDatagram::pair().expect("a pair of sockets");
            receiver.set_nonblocking(true).expect("a flag");
            sender.send(b"hello").expect("sent");
            let receiver = Readable::new(receiver).expect("registered");
            let mut buffer = [0; 16];
            let len = poll_fn(|cx| {
                let taken = receiver.poll_take(cx, |socket| {
                    let len = socket.recv(&mut buffer)?;
                    Ok(Some(&buffer[..len]))
                });
                taken.map(|bytes| bytes.expect("a message").len())
            });
            assert_eq!(len.await, 5);
        });
    }
}
