use super::*;

/// 8 × 5 patches of 32 pixels.
const GEOMETRY: PatchGeometry = PatchGeometry { height: 160, width: 256, patch: 32 };
const GRID: usize = 40;

fn chooser(policy: &str) -> Chooser {
    Chooser::new(policy.parse().unwrap(), GEOMETRY)
}

/// A picture of hills: no two patches alike.
fn scene() -> Rgb {
    let value = |x: u32, y: u32| ((x * 3 + y * 5) % 200) as u8;
    let data = (0..160).flat_map(|y| (0..256).flat_map(move |x| [value(x, y), value(y, x), 90])).collect();
    Rgb::new(256, 160, data).unwrap()
}

/// With a person of 8 × 16 pixels in the middle of a patch.
fn with_person(mut frame: Rgb, place: usize) -> Rgb {
    let (left, top) = (place % 8 * 32 + 8, place / 8 * 32 + 8);
    for (x, y) in (left..left + 8).flat_map(|x| (top..top + 16).map(move |y| (x, y))) {
        let at = (y * 256 + x) * 3;
        frame.data[at..at + 3].copy_from_slice(&[250, 20, 20]);
    }
    frame
}

fn lighter(mut frame: Rgb, by: i16) -> Rgb {
    frame.data.iter_mut().for_each(|value| *value = (i16::from(*value) + by).clamp(0, 255) as u8);
    frame
}

/// Sends a frame that is answered; what was sent.
fn send(chooser: &mut Chooser, frame: &Rgb) -> Selection {
    let selection = chooser.choose(frame);
    chooser.answered(selection.clone());
    selection
}

#[test]
fn the_first_frame_is_whole_whatever_the_policy() {
    for policy in ["all", "changed", "random(0.1)"] {
        let mut chooser = chooser(policy);
        assert!(send(&mut chooser, &scene()).choice.is_whole(), "{policy}");
        assert_eq!(chooser.choose(&scene()).choice.is_whole(), policy == "all", "{policy}");
        chooser.forget();
        assert!(chooser.choose(&scene()).choice.is_whole(), "a new session: {policy}");
    }
}

#[test]
fn someone_who_comes_is_news_and_so_is_someone_who_leaves() {
    let mut chooser = chooser("changed(8,60)");
    send(&mut chooser, &scene());
    let there = send(&mut chooser, &with_person(scene(), 19));
    assert!(there.news == 1 && there.choice.places().contains(&19), "{there:?}");
    assert_eq!(send(&mut chooser, &with_person(scene(), 19)).news, 0, "who stands still is known");
    let gone = send(&mut chooser, &with_person(scene(), 3));
    assert_eq!((gone.news, gone.choice.places().contains(&19)), (2, true), "{gone:?}");
}

#[test]
fn what_was_not_answered_is_chosen_again() {
    let mut chooser = chooser("changed(8,60)");
    send(&mut chooser, &scene());
    let lost = chooser.choose(&with_person(scene(), 5));
    assert_eq!(chooser.choose(&with_person(scene(), 5)), lost, "with the same ones that have their turn");
    send(&mut chooser, &with_person(scene(), 5));
    assert_ne!(chooser.choose(&with_person(scene(), 5)).choice, lost.choice);
}

#[test]
fn a_little_more_light_is_no_news_and_an_evening_is() {
    let mut chooser = chooser("changed(8,60)");
    send(&mut chooser, &scene());
    assert_eq!(chooser.choose(&lighter(scene(), 7)).news, 0);
    let both = chooser.choose(&with_person(lighter(scene(), 7), 11));
    assert_eq!(both.news, 1, "and does not hide anyone");
    assert_eq!(chooser.choose(&lighter(scene(), 25)).news, GRID);
}

#[test]
fn every_patch_has_its_turn_in_time() {
    for refresh in [1u16, 7, 39, 40, 60] {
        let mut chooser = chooser(&format!("changed(8,{refresh})"));
        send(&mut chooser, &scene());
        let mut seen = vec![0u32; GRID];
        let rounds = usize::from(refresh).min(GRID);
        for _ in 0..3 * rounds {
            let selection = send(&mut chooser, &scene());
            assert_eq!(selection.choice.len(), GRID.div_ceil(usize::from(refresh)), "evenly");
            selection.choice.places().iter().for_each(|place| seen[*place as usize] += 1);
        }
        assert!(seen.iter().all(|times| *times >= 3), "{refresh}: {seen:?}");
    }
}

#[test]
fn a_random_share_is_another_one_each_time_and_the_same_in_every_run() {
    let (mut one, mut other) = (chooser("random(0.3)"), chooser("random(0.3)"));
    let mut seen = vec![0u32; GRID];
    for number in 0..60 {
        let (selection, again) = (send(&mut one, &scene()), send(&mut other, &scene()));
        assert_eq!(selection, again);
        if number > 0 {
            assert_eq!(selection.choice.len(), 12);
            selection.choice.places().iter().for_each(|place| seen[*place as usize] += 1);
        }
    }
    // 59 draws of 30 %: 17.7 on average, 3.5 around it.
    assert!(seen.iter().all(|times| (5..32).contains(times)), "{seen:?}");
}

#[test]
fn cells_are_sums_over_their_pixels() {
    let mut frame = Rgb::filled(16, 8, [1, 2, 3]);
    frame.data[8 * 3] = 101;
    assert_eq!(cells(&frame), [64, 128, 192, 164, 128, 192]);
    assert_eq!(cells(&Rgb::filled(8, 8, [255; 3])), [16_320; 3]);
}
