//! What a process that hears strangers may do from now on, whatever becomes of it: which files it may write
//! ([`files`], by Landlock) and which system calls it may make ([`calls`], by seccomp).
//!
//! Both are the kernel's, hold for the calling thread and all that it starts, and are never taken back. So they are put
//! on before there are other threads. Neither asks who calls, and both outlive an `execve`: whoever is restricted
//! starts no programs, which is done by a process apart ([`super::program::apart`]).

pub mod calls;
pub mod files;
