//! Matrix products through cuBLASLt: bf16 or f32 operands, f32 sums.

use std::collections::HashMap;
use std::ffi::c_void;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    self, cublasComputeType_t, cublasLtEpilogue_t, cublasLtHandle_t, cublasLtMatmulAlgo_t,
    cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t as Attribute, cublasLtMatmulPreferenceAttributes_t,
    cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t, cudaDataType,
};

use crate::backend::cuda::plan::{Element, Gemm, Layout, Memory};

/// Working memory of a product, in bytes: what NVIDIA advises for its H100, and more than older cards use.
pub(super) const WORKSPACE: usize = 32 << 20;

/// `CUBLAS_OP_T` of `cublas_api.h`, which the bindings of cuBLASLt leave out.
const TRANSPOSED: i32 = 1;

/// cuBLASLt, and what it has chosen so far.
#[derive(Debug)]
pub(super) struct Products {
    handle: cublasLtHandle_t,
    /// One choice a shape: blocks share them.
    chosen: HashMap<Shape, cublasLtMatmulAlgo_t>,
}

// SAFETY: cuBLASLt's handles may be used from any thread; this one is used by one at a time.
unsafe impl Send for Products {}

/// All of a product but where it lies and its factors.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Shape {
    sizes: [usize; 4],
    transposed: bool,
    biased: bool,
    adds: bool,
    layouts: [(Element, usize, usize); 4],
}

impl Shape {
    fn new(gemm: &Gemm) -> Self {
        let layout = |layout: &Layout| (layout.element, layout.leading, layout.batch);
        Self {
            sizes: [gemm.m, gemm.n, gemm.k, gemm.count],
            transposed: gemm.transposed,
            biased: gemm.bias.is_some(),
            adds: gemm.beta != 0.0,
            layouts: [&gemm.a, &gemm.b, &gemm.c, &gemm.d].map(layout),
        }
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: it was made by cuBLASLt and is destroyed once. There is nothing to do about a failure.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// Where a product runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) stream: sys::cudaStream_t,
    /// [`WORKSPACE`] bytes of the device's.
    pub(super) workspace: u64,
}

impl Products {
    /// The current context's.
    pub(super) fn new() -> Result<Self, CublasError> {
        Ok(Self { handle: result::create_handle()?, chosen: HashMap::new() })
    }

    /// Adds a product to a stream; `at` gives the address of a memory.
    pub(super) fn enqueue(
        &mut self,
        gemm: &Gemm,
        place: Place,
        at: impl Fn(Memory) -> u64,
    ) -> Result<(), CublasError> {
        let description = Description::new(gemm, &at)?;
        let layouts = [
            Matrix::new(&gemm.a, gemm.count)?,
            Matrix::new(&gemm.b, gemm.count)?,
            Matrix::new(&gemm.c, gemm.count)?,
            Matrix::new(&gemm.d, gemm.count)?,
        ];
        let shape = Shape::new(gemm);
        let chosen = match self.chosen.get(&shape) {
            Some(chosen) => *chosen,
            None => {
                let chosen = self.choose(&description, &layouts)?;
                self.chosen.insert(shape, chosen);
                chosen
            }
        };
        let [a, b, c, d] = &layouts;
        let address = |layout: &Layout| at(layout.memory) as *mut c_void;
        // SAFETY: descriptors are alive; the addresses are of the machine's memory, which a plan's products stay inside;
        // factors are read before the call returns.
        unsafe {
            result::matmul(
                self.handle,
                description.0,
                (&raw const gemm.alpha).cast(),
                (&raw const gemm.beta).cast(),
                address(&gemm.a),
                a.0,
                address(&gemm.b),
                b.0,
                address(&gemm.c),
                c.0,
                address(&gemm.d),
                d.0,
                &raw const chosen,
                place.workspace as *mut c_void,
                WORKSPACE,
                place.stream,
            )
        }
    }

    /// What cuBLASLt thinks fastest.
    fn choose(
        &self,
        description: &Description,
        [a, b, c, d]: &[Matrix; 4],
    ) -> Result<cublasLtMatmulAlgo_t, CublasError> {
        let preference = Preference::new()?;
        // SAFETY: everything is alive.
        let found = unsafe {
            result::get_matmul_algo_heuristic(self.handle, description.0, a.0, b.0, c.0, d.0, preference.0)
        };
        Ok(found?.algo)
    }
}

/// A pointer to a value, and its size, as attributes are set.
fn value<T>(of: &T) -> (*const c_void, usize) {
    (std::ptr::from_ref(of).cast(), size_of::<T>())
}

struct Description(cublasLtMatmulDesc_t);

impl Description {
    fn new(gemm: &Gemm, at: impl Fn(Memory) -> u64) -> Result<Self, CublasError> {
        let description = Self(result::create_matmul_desc(
            cublasComputeType_t::CUBLAS_COMPUTE_32F,
            cudaDataType::CUDA_R_32F,
        )?);
        let set = |attribute, (pointer, size)| {
            // SAFETY: the descriptor is alive, and the value is copied.
            unsafe { result::set_matmul_desc_attribute(description.0, attribute, pointer, size) }
        };
        if gemm.transposed {
            set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, value(&TRANSPOSED))?;
        }
        if let Some(bias) = gemm.bias {
            let epilogue = cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, value(&epilogue))?;
            set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, value(&at(bias)))?;
        }
        Ok(description)
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: it was made by cuBLASLt and is destroyed once. There is nothing to do about a failure.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

struct Matrix(cublasLtMatrixLayout_t);

impl Matrix {
    fn new(layout: &Layout, count: usize) -> Result<Self, CublasError> {
        let element = match layout.element {
            Element::F32 => cudaDataType::CUDA_R_32F,
            Element::Bf16 => cudaDataType::CUDA_R_16BF,
        };
        let (rows, cols) = (layout.rows as u64, layout.cols as u64);
        let matrix = Self(result::create_matrix_layout(element, rows, cols, layout.leading as i64)?);
        if count > 1 {
            let set = |attribute, (pointer, size)| {
                // SAFETY: the layout is alive, and the value is copied.
                unsafe { result::set_matrix_layout_attribute(matrix.0, attribute, pointer, size) }
            };
            set(cublasLtMatrixLayoutAttribute_t::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, value(&(count as i32)))?;
            let stride = cublasLtMatrixLayoutAttribute_t::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
            set(stride, value(&(layout.batch as i64)))?;
        }
        Ok(matrix)
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        // SAFETY: it was made by cuBLASLt and is destroyed once. There is nothing to do about a failure.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new() -> Result<Self, CublasError> {
        let preference = Self(result::create_matmul_pref()?);
        let most = cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let (pointer, size) = value(&WORKSPACE);
        // SAFETY: the preference is alive, and the value is copied.
        unsafe { result::set_matmul_pref_attribute(preference.0, most, pointer, size) }?;
        Ok(preference)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: it was made by cuBLASLt and is destroyed once. There is nothing to do about a failure.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}
