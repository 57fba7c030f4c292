//! The processor's vector instructions behind safe functions: the only unsafe code of this backend.
//!
//! ```text
//! isa      what the processor has; a flag that is set is the proof that a kernel may run
//! words    memory on cache lines, seen as f32, bf16 or bytes
//! pool     threads that share out the tasks of a stage        blocks   a matrix that they write together
//! tile     rows × a panel of packed columns: the products
//! vector   sixteen numbers in a register or an array          lanes, rows, finish   everything between products
//! ```
//! Every kernel has a twin in plain Rust that the tests hold it against, on ragged shapes; the twin is also what runs
//! where AVX-512 is missing (f32 through the `gemm` crate).
#![allow(unsafe_code)] // the module exists for it; each use states what it relies on

mod blocks;
pub mod finish;
mod isa;
mod lanes;
mod pool;
pub mod rows;
mod tile;
mod vector;
mod words;

pub use blocks::{Bands, Block, MatMut};
pub use isa::{Format, Isa};
pub use pool::Pool;
pub use tile::{Left, Panel, WIDTH, tile};
pub use words::{LINE, Words, bytes_mut, floats, floats_mut, halves, halves_mut, words_of};
