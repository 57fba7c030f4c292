//! The two things about a child process that the standard library cannot say safely.
//!
//! Every `unsafe` block of capture is in this file.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Makes the child its own process group, to be killed as one, and has the kernel kill it when the *thread* that
/// spawned it ends (`PR_SET_PDEATHSIG` is per thread): even an agent that is killed leaves no child behind.
///
/// The caller's promise: the spawning thread lives at least as long as the child is wanted. A broken promise
/// costs the child, nothing else.
pub(super) fn bind_to_thread(command: &mut Command) {
    command.process_group(0);
    let parent = std::process::id();
    let bind = move || {
        // SAFETY: a system call that takes integers only.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == -1 {
            return Err(io::Error::last_os_error());
        }
        // The agent may have died between fork and prctl: then nobody will ever send the signal.
        // SAFETY: takes nothing, cannot fail.
        if unsafe { libc::getppid() }.cast_unsigned() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe functions may run; `bind` makes two system calls and
    // allocates nothing (both errors are plain OS codes), and touches no lock or memory of other threads.
    unsafe { command.pre_exec(bind) };
}

/// Sends `signal` to the group of a child started with [`bind_to_thread`]. Taking the child by `&mut` shows that
/// it was not yet waited for, so its number still is its own and cannot have been given to another process.
pub(super) fn signal_group(child: &mut Child, signal: libc::c_int) {
    if let Ok(None) = child.try_wait() {
        // SAFETY: a system call that takes integers only; the group is the child's own, see above. A group that
        // is already gone is an error nobody needs.
        unsafe { libc::kill(-child.id().cast_signed(), signal) };
    }
}
