use super::super::samples::{answer, names, sensor};
use super::*;

const EVERY: Duration = Duration::from_secs(1);
const FRESH: Duration = Duration::from_secs(30);

fn book() -> Book {
    Book::new(names(), EVERY, FRESH)
}

fn topics(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.topic.as_str()).collect()
}

const CONFIG: &str = "homeassistant/sensor/fth_plaza-1/people/config";
const STATE: &str = "fine-tuned-heads/plaza-1/people/state";
const ATTRIBUTES: &str = "fine-tuned-heads/plaza-1/people/attributes";
const AVAILABILITY: &str = "fine-tuned-heads/plaza-1/people/availability";
const STATUS: &str = "fine-tuned-heads/plaza-1/status";

#[test]
fn of_the_values_in_a_second_the_newest_is_told() {
    let (mut book, board, start) = (book(), Board::default(), Instant::now());
    let ms = |ms| start + Duration::from_millis(ms);
    book.follow(vec![sensor("people", "r1")]);
    let mut told = Vec::new();
    for frame in 0..25_u64 {
        let now = ms(100 * frame);
        board.post(now, &[answer("r1", frame)]);
        let due = book.due(&board, now, false);
        for message in due.messages.into_iter().filter(|message| message.value_of.is_some()) {
            assert_eq!(message.topic, STATE);
            let value: Value = serde_json::from_str(&message.payload).unwrap();
            told.push((frame, value["seq"].as_u64().unwrap()));
            book.taken("people");
        }
    }
    assert_eq!(told, [(0, 0), (10, 10), (20, 20)]);
    assert_eq!(book.next(ms(2400)), Some(ms(3000)));
    let due = book.due(&board, ms(3000), false);
    assert!(
        due.messages[0].payload.contains("\"seq\":24"),
        "the newest is told even when no newer one comes"
    );
    book.taken("people");
    assert!(book.due(&board, ms(9000), false).messages.is_empty(), "once");
}

#[test]
fn a_broker_that_takes_nothing_misses_values_and_gets_the_newest_then() {
    let (mut book, board, start) = (book(), Board::default(), Instant::now());
    book.follow(vec![sensor("people", "r1")]);
    let mut missed = 0;
    for frame in 0..4_u32 {
        let now = start + frame * EVERY;
        board.post(now, &[answer("r1", frame.into())]);
        let due = book.due(&board, now, false);
        missed += due.missed + book.due(&board, now, false).missed;
        assert_eq!(
            due.messages.iter().filter(|message| message.value_of.is_some()).count(),
            usize::from(frame == 0)
        );
    }
    assert_eq!(missed, 3, "each once");
    book.taken("people");
    let due = book.due(&board, start + 4 * EVERY, false);
    assert!(due.messages[0].payload.contains("\"seq\":3") && due.missed == 0, "{due:?}");
}

#[test]
fn a_head_is_available_while_its_newest_answer_is_fresh() {
    let (mut book, board, start) = (book(), Board::default(), Instant::now());
    book.follow(vec![sensor("people", "r1")]);
    let said = |book: &mut Book, now| {
        let due = book.due(&board, now, false);
        due.messages.into_iter().filter(|m| m.topic == AVAILABILITY).map(|m| m.payload).collect::<Vec<_>>()
    };
    assert_eq!(said(&mut book, start), [OFFLINE], "no answer yet");
    board.post(start, &[answer("r1", 0)]);
    assert_eq!(said(&mut book, start), [ONLINE]);
    assert_eq!(said(&mut book, start + FRESH - EVERY), [""; 0]);
    assert_eq!(said(&mut book, start + FRESH), [OFFLINE]);
    board.post(start + FRESH, &[answer("r1", 1)]);
    assert_eq!(said(&mut book, start + FRESH), [ONLINE]);
    assert_eq!(topics(&book.hello()), [STATUS, CONFIG, ATTRIBUTES]);
    assert_eq!(said(&mut book, start + FRESH), [ONLINE], "another connection knows nothing");
}

#[test]
fn heads_come_change_and_go() {
    let mut book = book();
    assert_eq!(topics(&book.follow(vec![sensor("people", "r1")])), [CONFIG, ATTRIBUTES]);
    assert!(book.follow(vec![sensor("people", "r1")]).is_empty());
    let swapped = book.follow(vec![sensor("people", "r2")]);
    assert_eq!(topics(&swapped), [CONFIG, ATTRIBUTES], "the same sensor, of another release");
    assert!(swapped[1].payload.contains("r2"));
    let gone = book.follow(vec![sensor("cars", "r3")]);
    assert_eq!(topics(&gone[..4]), [CONFIG, STATE, ATTRIBUTES, AVAILABILITY]);
    assert!(gone[..4].iter().all(|message| message.payload.is_empty()));
    assert!(gone[4].topic.contains("/cars/") && !gone[4].payload.is_empty());
    // The broker may have been away: it is told once more.
    let hello = book.hello();
    assert_eq!(topics(&hello[..5]), [STATUS, CONFIG, STATE, ATTRIBUTES, AVAILABILITY]);
    assert_eq!((hello[0].payload.as_str(), hello.len()), (ONLINE, 7));
    book.follow(vec![sensor("people", "r1")]);
    let hello = book.hello();
    assert!(
        hello.iter().filter(|message| message.topic == CONFIG).all(|message| !message.payload.is_empty())
    );
}

#[test]
fn sensors_of_an_earlier_run_are_forgotten() {
    let mut book = book();
    let old = payload::config(&names(), &sensor("people", "r1"), FRESH).to_string();
    let forgotten = book.remembered(CONFIG, old.as_bytes());
    assert_eq!(topics(&forgotten), [CONFIG, STATE, ATTRIBUTES, AVAILABILITY]);
    assert!(forgotten.iter().all(|message| message.payload.is_empty()));
    let strange = book.remembered(CONFIG, b"{\"state_topic\":\"site/valve/state\"}");
    assert_eq!(topics(&strange), [CONFIG], "nobody else's topics");
    let other = "homeassistant/sensor/fth_gate/people/config";
    assert!(book.remembered(other, old.as_bytes()).is_empty(), "another box's");
    book.follow(vec![sensor("people", "r2")]);
    assert!(book.remembered(CONFIG, old.as_bytes()).is_empty(), "a head of this run");
}

#[test]
fn without_discovery_values_and_availability_are_told_all_the_same() {
    let mut book = Book::new(Names { discovery: None, ..names() }, EVERY, FRESH);
    assert_eq!(topics(&book.follow(vec![sensor("people", "r1")])), [ATTRIBUTES]);
    let board = Board::default();
    board.post(Instant::now(), &[answer("r1", 0)]);
    assert_eq!(topics(&book.due(&board, Instant::now(), false).messages), [STATE, AVAILABILITY]);
    assert_eq!(topics(&book.follow(Vec::new())), [STATE, ATTRIBUTES, AVAILABILITY]);
}

#[test]
fn the_last_value_does_not_wait_for_its_time() {
    let (mut book, board, start) = (book(), Board::default(), Instant::now());
    book.follow(vec![sensor("people", "r1")]);
    board.post(start, &[answer("r1", 0)]);
    book.due(&board, start, false);
    book.taken("people");
    board.post(start, &[answer("r1", 1)]);
    assert!(book.due(&board, start, false).messages.is_empty());
    assert!(book.due(&board, start, true).messages[0].payload.contains("\"seq\":1"));
    assert_eq!(book.farewell(), Message::new(STATUS.into(), OFFLINE));
}
