//! The kernel's programs that say which packets a socket hears (classic BPF).

use socket2::SockFilter;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

pub(super) const REJECT: SockFilter = SockFilter::new(RETURN, 0, 0, 0);
pub(super) const PASS: SockFilter = SockFilter::new(RETURN, 0, 0, u32::MAX);

/// Loads four bytes, as a number in network order. What is shorter than a load wants is rejected by the kernel.
pub(super) const fn load_word(offset: u32) -> SockFilter {
    SockFilter::new(LOAD_WORD, 0, 0, offset)
}

/// The same of two.
pub(super) const fn load_half(offset: u32) -> SockFilter {
    SockFilter::new(LOAD_HALF, 0, 0, offset)
}

/// The same of one.
pub(super) const fn load_byte(offset: u32) -> SockFilter {
    SockFilter::new(LOAD_BYTE, 0, 0, offset)
}

/// Keeps of what was loaded only these bits.
pub(super) const fn and(mask: u32) -> SockFilter {
    SockFilter::new(AND, 0, 0, mask)
}

/// Skips so many where what was loaded is this, and so many where it is not.
pub(super) const fn if_equal(value: u32, then: u8, otherwise: u8) -> SockFilter {
    SockFilter::new(JUMP_EQUAL, then, otherwise, value)
}

/// The same where it is greater.
pub(super) const fn if_greater(value: u32, then: u8, otherwise: u8) -> SockFilter {
    SockFilter::new(JUMP_GREATER, then, otherwise, value)
}
