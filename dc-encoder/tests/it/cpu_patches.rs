//! Some patches of a frame alone, on the processor's own path against candle, and whole pictures made of them.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use dc_encoder::backend::cpu::simd::Isa;
use dc_encoder::backend::cpu::{CpuBackend, Encoder, Setup};
use dc_encoder::backend::{Backend, BackendError, Memory, Partial, Precision};
use dc_encoder::model::config::Attention;
use dc_encoder::model::{Config, Model, init};
use shared::image::Rgb;
use shared::patches::Choice;

use crate::cpu::{error, frames, patches, shapes};

/// The shapes whose whole frames go through exact attention.
fn exact_shapes() -> impl Iterator<Item = (&'static str, Config)> {
    shapes().into_iter().filter(|(_, config)| config.is_exact(config.tokens()))
}

/// Every `step`th place of the grid.
fn every(config: &Config, step: usize) -> Choice {
    Choice::of(&(0..config.patches()).map(|place| place % step == 0).collect::<Vec<_>>())
}

fn model(config: &Config) -> Model {
    Model::from_weights(config, init::random(config, 3).unwrap(), &Device::Cpu).unwrap()
}

/// Latent tokens of these patches, from candle.
fn reference(model: &Model, frame: &Rgb, choice: &Choice) -> Vec<f32> {
    let config = model.config();
    let (all, length) = (patches(config, frame), config.patch_dim());
    let kept: Vec<f32> = choice
        .places()
        .iter()
        .flat_map(|place| &all[*place as usize * length..][..length])
        .copied()
        .collect();
    let kept = Tensor::from_vec(kept, (1, choice.len(), length), &Device::Cpu).unwrap();
    let places = Tensor::from_vec(choice.places().to_vec(), (1, choice.len()), &Device::Cpu).unwrap();
    model.encoder().encode_some(&kept, &places).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn some_patches_give_candles_tokens_in_every_precision() {
    for (name, config) in exact_shapes() {
        let (model, frames) = (model(&config), frames(&config));
        for isa in [Isa::detect(), Isa::portable()] {
            for (precision, tolerance) in
                [(Precision::F32, 1e-4), (Precision::Bf16, 3e-2), (Precision::Int8, 6e-2)]
            {
                let setup = Setup { precision, isa, threads: 2, batch: 2 };
                let mut encoder = Encoder::new(&config, &init::random(&config, 3).unwrap(), setup).unwrap();
                let whole = encoder.frames(&frames, true);
                for choice in [every(&config, 3), every(&config, 44), every(&config, 1), every(&config, 2)] {
                    let partial: Vec<Partial> = frames
                        .iter()
                        .map(|frame| Partial { frame: Arc::clone(frame), choice: choice.clone() })
                        .collect();
                    let got = encoder.partial(&partial.iter().collect::<Vec<_>>());
                    for (frame, got) in frames.iter().zip(&got) {
                        let error = error(got, &reference(&model, frame, &choice));
                        println!("{name} {precision} {isa:?} {} patches: {error:.1e}", choice.len());
                        assert!(error < tolerance, "{name} {precision} {isa:?} {} patches", choice.len());
                    }
                }
                assert_eq!(encoder.frames(&frames, true), whole, "a whole frame is as it was");
            }
        }
    }
}

fn backend(config: &Config) -> CpuBackend {
    let weights = init::random(config, 3).unwrap();
    CpuBackend::new(config, weights, Precision::F32, String::new()).unwrap()
}

#[test]
fn frames_with_different_numbers_of_patches_come_back_in_their_order() {
    let (_, config) = exact_shapes().next().unwrap();
    let (mut backend, model, frames) = (backend(&config), model(&config), frames(&config));
    let steps = [3, 1, 44, 3, 2, 1];
    let batch: Vec<Partial> = steps
        .iter()
        .zip(frames.iter().cycle())
        .map(|(step, frame)| Partial { frame: Arc::clone(frame), choice: every(&config, *step) })
        .collect();
    let all = backend.encode_partial(&batch).unwrap();
    for (partial, got) in batch.iter().zip(&all) {
        assert!(error(got, &reference(&model, &partial.frame, &partial.choice)) < 1e-4);
    }
}

/// A whole frame sent as patches is the same frame; one of which patches are kept from before is a mix of both.
#[test]
fn a_memory_of_tokens_is_pooled_as_the_model_pools() {
    for (name, config) in exact_shapes() {
        let (mut backend, frames) = (backend(&config), frames(&config));
        let whole = backend.encode(&frames[..2], true).unwrap();
        let mut memory = Memory::new(&backend.info()).unwrap();
        let mut send = |memory: &mut Memory, seq, frame: &Arc<Rgb>, choice: &Choice| {
            let partial = Partial { frame: Arc::clone(frame), choice: choice.clone() };
            let tokens = backend.encode_partial(&[partial]).unwrap().remove(0);
            memory.remember(seq, choice, &tokens);
            tokens
        };
        let (all, some) = (every(&config, 1), every(&config, 4));
        assert!(!memory.completes(&some) && memory.completes(&all) && memory.missing() == config.patches());
        send(&mut memory, 7, &frames[0], &all);
        assert!(memory.completes(&some) && memory.missing() == 0);
        assert!(error(&memory.embedding(), &whole[0].embedding) < 1e-4, "{name}");
        assert!(error(memory.tokens(), whole[0].tokens.as_ref().unwrap()) < 1e-4, "{name}");

        let new = send(&mut memory, 8, &frames[1], &some);
        let (dim, old) = (new.len() / some.len(), whole[0].tokens.clone().unwrap());
        let at = |place: usize| memory.tokens()[place * dim..][..dim].to_vec();
        assert_eq!((at(0), at(4)), (new[..dim].to_vec(), new[dim..2 * dim].to_vec()), "{name}");
        assert!(error(&at(1), &old[dim..2 * dim]) < 1e-4, "{name}");
        let mixed = memory.embedding();
        assert!(error(&mixed, &whole[0].embedding) > 1e-4, "{name}");
        // A frame that was overtaken brings nothing where newer tokens are known.
        send(&mut memory, 6, &frames[0], &all);
        assert_eq!(memory.embedding(), mixed, "{name}");
    }
}

#[test]
fn a_model_with_landmarks_takes_whole_frames_only_and_says_so() {
    let (_, config) = exact_shapes().next().unwrap();
    let config = Config { attention: Attention::Nystrom, landmarks: 20, ..config };
    let (mut backend, frames) = (backend(&config), frames(&config));
    assert_eq!(backend.info().patches, None);
    assert!(Memory::new(&backend.info()).is_none());
    let partial = Partial { frame: Arc::clone(&frames[0]), choice: every(&config, 3) };
    let error = backend.encode_partial(&[partial]).unwrap_err();
    assert!(matches!(error, BackendError::WholeFrames { .. }), "{error}");
    assert!(error.to_string().contains("uplink.patches = \"all\""), "{error}");
}
