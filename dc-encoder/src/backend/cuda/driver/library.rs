//! Which of CUDA's libraries load here. They are looked up when the program runs, and only if CUDA is asked for.

/// A library of CUDA's that this backend calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    Driver,
    Nvrtc,
    CublasLt,
}

impl Library {
    const ALL: [Self; 3] = [Self::Driver, Self::Nvrtc, Self::CublasLt];

    /// What it is, and where to get it.
    fn remedy(self) -> &'static str {
        match self {
            Self::Driver => {
                "the NVIDIA driver (libcuda.so.1) does not load: install the card's driver, or give the container the card"
            }
            Self::Nvrtc => {
                "NVRTC (libnvrtc.so.13 or .12) does not load: install the CUDA runtime compiler (pip: nvidia-cuda-nvrtc) \
                 and put its folder on LD_LIBRARY_PATH"
            }
            Self::CublasLt => {
                "cuBLASLt (libcublasLt.so.13 or .12) does not load: install cuBLAS (pip: nvidia-cublas) and put its folder \
                 on LD_LIBRARY_PATH"
            }
        }
    }

    /// Whether it loads.
    #[cfg(not(feature = "cuda"))]
    fn loads(self) -> bool {
        // SAFETY: opens a shared library of this name and closes it again; NVIDIA's have no initialisers that need anything.
        unsafe {
            match self {
                Self::Driver => cudarc::driver::sys::is_culib_present(),
                Self::Nvrtc => cudarc::nvrtc::sys::is_culib_present(),
                Self::CublasLt => cudarc::cublaslt::sys::is_culib_present(),
            }
        }
    }

    /// A build for training is linked to all of them, and does not start without.
    #[cfg(feature = "cuda")]
    fn loads(self) -> bool {
        true
    }
}

/// What is missing, in words; `None` where everything loads.
pub(super) fn missing() -> Option<String> {
    explain(Library::loads)
}

/// NVRTC alone is enough to compile.
pub(super) fn missing_compiler() -> Option<String> {
    (!Library::Nvrtc.loads()).then(|| Library::Nvrtc.remedy().to_owned())
}

/// The same from what loads. Without a driver the rest does not matter.
fn explain(loads: impl Fn(Library) -> bool) -> Option<String> {
    if !loads(Library::Driver) {
        return Some(Library::Driver.remedy().to_owned());
    }
    let missing: Vec<_> =
        Library::ALL.into_iter().filter(|library| !loads(*library)).map(Library::remedy).collect();
    (!missing.is_empty()).then(|| missing.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        assert_eq!(explain(|_| true), None);
        let without = |gone: &'static [Library]| explain(|library| !gone.contains(&library)).unwrap();
        let driver = without(&[Library::Driver, Library::Nvrtc]);
        assert!(driver.contains("libcuda.so.1") && !driver.contains("NVRTC"), "{driver}");
        let both = without(&[Library::Nvrtc, Library::CublasLt]);
        assert!(both.contains("nvidia-cuda-nvrtc") && both.contains("nvidia-cublas"), "{both}");
        assert!(both.contains("LD_LIBRARY_PATH"), "{both}");
    }
}
