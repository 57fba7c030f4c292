//! Camera boxes of three architectures as virtual machines: `make test-boxes`.
//!
//! The programs are those of the packages, the kernels Debian's, the camera is the kernel's own virtual one (vivid)
//! behind V4L2. The encoder is in the box (x86_64, aarch64), or on this machine (armv7, for which there is no package
//! of it).

mod lifetime;
mod machine;
mod systemd;
mod unplug;
mod world;
