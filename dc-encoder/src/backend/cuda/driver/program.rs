//! A plan's kernels, compiled by NVRTC for one kind of card.

use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaModule, DriverError};
use cudarc::nvrtc::result::{self, NvrtcError};
use cudarc::nvrtc::{Ptx, sys};

use super::device::Device;
use super::library;
use crate::backend::cuda::CudaError;
use crate::backend::cuda::plan::Program;

/// Longest part of a compiler's log that is shown, in characters.
const LOG: usize = 4000;

/// Machine code of a program for cards of a compute capability. It needs NVRTC, and neither a driver nor a card.
///
/// The code is final (no PTX), so that it runs under drivers that are older than the compiler.
///
/// # Errors
/// NVRTC is missing, does not know the card, or refuses the source, with its log.
pub(in crate::backend::cuda) fn compile(
    program: &Program,
    (major, minor): (i32, i32),
) -> Result<Vec<u8>, CudaError> {
    if let Some(missing) = library::missing_compiler() {
        return Err(CudaError::Compiler { reason: missing });
    }
    let refused = |error: NvrtcError| CudaError::Compiler { reason: format!("NVRTC says {error}") };
    let source = CString::new(program.source()).expect("the source is text without zeros");
    let handle = Handle(result::create_program(&source, Some(c"encoder.cu")).map_err(refused)?);
    let options = [format!("--gpu-architecture=sm_{major}{minor}"), "--std=c++17".to_owned()];
    // SAFETY: the program is alive, and its source outlives it.
    if let Err(error) = unsafe { result::compile_program(handle.0, &options) } {
        return Err(CudaError::Compiler {
            reason: format!("NVRTC says {error} for {}: {}", options[0], handle.log()),
        });
    }
    handle.code().map_err(refused)
}

/// A program of NVRTC's.
struct Handle(sys::nvrtcProgram);

impl Handle {
    fn log(&self) -> String {
        // SAFETY: the program is alive.
        let log = unsafe { result::get_program_log(self.0) }.unwrap_or_default();
        // C's characters have a sign on x86-64, and none on ARM.
        let bytes: Vec<u8> = log.iter().flat_map(|c| c.to_ne_bytes()).take_while(|c| *c != 0).collect();
        String::from_utf8_lossy(&bytes).chars().take(LOG).collect()
    }

    fn code(&self) -> Result<Vec<u8>, NvrtcError> {
        let mut size = 0;
        // SAFETY: the program is alive and compiled; the memory has the size that it asks for.
        unsafe {
            sys::nvrtcGetCUBINSize(self.0, &raw mut size).result()?;
            let mut code = vec![0u8; size];
            sys::nvrtcGetCUBIN(self.0, code.as_mut_ptr().cast()).result()?;
            Ok(code)
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was made by NVRTC and is destroyed once. There is nothing to do about a failure.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// A program's kernels on a card, in the order of their numbers.
pub(super) fn load(device: &Device, program: &Program) -> Result<Vec<CudaFunction>, CudaError> {
    let failed = |error: DriverError| CudaError::failed(&device.name, &error);
    let code = compile(program, device.capability)?;
    let module: Arc<CudaModule> = device.context.load_module(Ptx::from_binary(code)).map_err(failed)?;
    program.names().iter().map(|name| module.load_function(name).map_err(failed)).collect()
}
