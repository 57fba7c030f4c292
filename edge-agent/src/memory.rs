//! Frames go back to the system when they are freed.
//!
//! Left alone, glibc keeps a freed frame for the thread that asked for it: each thread that ever held one, such as
//! the reader of each restarted ffmpeg, holds on to a few megabytes, on a box that has few.
#![allow(unsafe_code)]

/// Smaller than a decoded frame, larger than what is allocated often.
#[cfg(target_env = "gnu")]
const RETURNED_FROM_BYTES: libc::c_int = 256 << 10;

/// Has the allocator take large blocks from the system one by one, and give each back when it is freed. To be called
/// before other threads are started.
pub fn return_frames() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes integers only, and no other thread allocates meanwhile. Refused, it changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED_FROM_BYTES);
    }
}
