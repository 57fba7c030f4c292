use super::*;
use crate::backend::Encoded;

const SETTINGS: Settings = Settings { per_camera: 2, total: 8, decoded_ahead: 2 };
const FOREVER: Duration = Duration::from_secs(3600);

fn frame(camera: u64, seq: u64, useful_for: Duration) -> Frame {
    Frame {
        camera: CameraKey(camera),
        weight: 1,
        seq,
        jpeg: vec![0; 4],
        patches: None,
        tokens: false,
        deadline: Instant::now() + useful_for,
        account: Arc::default(),
        memory: None,
    }
}

fn rgb() -> Result<Rgb, Rejection> {
    Ok(Rgb::filled(1, 1, [0; 3]))
}

fn outcome(mut ticket: Ticket) -> Outcome {
    ticket.settled = true;
    ticket.outcome.try_recv().expect("the frame has an outcome")
}

fn counts(waiting: usize, decoding: usize, ready: usize) -> Counts {
    Counts { waiting, decoding, ready }
}

#[test]
fn a_frame_goes_all_the_way_and_its_time_is_accounted_for() {
    let pipeline = Pipeline::new(SETTINGS);
    let ticket = pipeline.submit(frame(1, 7, FOREVER));
    let entry = pipeline.next_to_decode().unwrap();
    assert_eq!((entry.seq, pipeline.counts()), (7, counts(0, 1, 0)));
    pipeline.decoded(entry, Instant::now(), rgb());
    assert_eq!(pipeline.counts(), counts(0, 0, 1));
    let mut batch = pipeline.next_batch(8).unwrap();
    let Entry { mut item, .. } = batch.pop().unwrap();
    item.started(Instant::now() + Duration::from_millis(5));
    item.answer(Encoded { embedding: vec![1.0], tokens: None }, 1, Duration::from_millis(9));
    let Outcome::Encoded { timings, batch: 1, .. } = outcome(ticket) else { panic!("not encoded") };
    assert!(timings.queue >= Duration::from_millis(5), "{timings:?}");
    assert_eq!(timings.encode, Duration::from_millis(9));
}

#[test]
fn a_cancelled_frame_is_decoded_by_nobody() {
    let pipeline = Pipeline::new(SETTINGS);
    drop(pipeline.submit(frame(1, 1, FOREVER)));
    assert_eq!(pipeline.counts(), counts(0, 0, 0));
    let _kept = pipeline.submit(frame(1, 2, FOREVER));
    assert_eq!(pipeline.next_to_decode().unwrap().seq, 2);
}

#[test]
fn a_frame_cancelled_while_it_is_decoded_does_not_reach_the_device() {
    let pipeline = Pipeline::new(SETTINGS);
    let ticket = pipeline.submit(frame(1, 1, FOREVER));
    let entry = pipeline.next_to_decode().unwrap();
    drop(ticket);
    pipeline.decoded(entry, Instant::now(), rgb());
    assert_eq!(pipeline.counts(), counts(0, 0, 0));
}

#[test]
fn decoding_stays_only_so_far_ahead_of_the_device() {
    let pipeline = Pipeline::new(SETTINGS);
    let _tickets: Vec<Ticket> = (0..3).map(|camera| pipeline.submit(frame(camera, 1, FOREVER))).collect();
    for _ in 0..SETTINGS.decoded_ahead {
        let entry = pipeline.next_to_decode().unwrap();
        pipeline.decoded(entry, Instant::now(), rgb());
    }
    std::thread::scope(|scope| {
        let third = scope.spawn(|| pipeline.next_to_decode().map(|entry| entry.camera));
        // Whether the thread already waits or not: it gets the frame only once the device took two.
        assert_eq!(pipeline.next_batch(8).unwrap().len(), 2);
        assert_eq!(third.join().unwrap(), Some(CameraKey(2)));
    });
}

#[test]
fn expired_frames_are_answered_when_their_session_asks() {
    let pipeline = Pipeline::new(SETTINGS);
    let ticket = pipeline.submit(frame(1, 1, Duration::from_secs(60)));
    pipeline.expire(Instant::now());
    assert_eq!(pipeline.counts(), counts(1, 0, 0));
    pipeline.expire(Instant::now() + Duration::from_secs(61));
    assert!(matches!(outcome(ticket), Outcome::Dropped(DropReason::Expired, _)));
}

#[test]
fn the_end_answers_whatever_still_waits() {
    let closed = Pipeline::new(SETTINGS);
    let (decoding, waiting) = (closed.submit(frame(1, 1, FOREVER)), closed.submit(frame(1, 2, FOREVER)));
    let entry = closed.next_to_decode().unwrap();
    closed.close();
    assert!(closed.next_to_decode().is_none() && closed.next_batch(1).is_none());
    closed.decoded(entry, Instant::now(), rgb());
    let late = closed.submit(frame(2, 3, FOREVER));
    for ticket in [decoding, waiting, late] {
        assert!(matches!(outcome(ticket), Outcome::Dropped(DropReason::Draining, _)));
    }

    let failed = Pipeline::new(SETTINGS);
    let waiting = failed.submit(frame(1, 1, FOREVER));
    failed.fail("the device is lost");
    for ticket in [waiting, failed.submit(frame(1, 2, FOREVER))] {
        let Outcome::Rejected(rejection) = outcome(ticket) else { panic!("not rejected") };
        assert_eq!(rejection, internal("the device is lost"));
    }
}
