//! Labels: what somebody said about a frame, kept for each of them, and what follows when they differ.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::head::{Task, is_class_name};

use super::FrameId;
use crate::heads::labels::column;

/// Most boxes in one picture: a crowd, not a defect of a platform.
const MAX_BOXES: usize = 10_000;

/// Longest name of an annotator or of where a label came from, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 200;

/// What a label says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// How many there are, and where, if that was marked: `[x, y, width, height]` in shares of the picture's sides.
    Count {
        /// How many.
        value: f64,
        /// Where.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        boxes: Vec<[f64; 4]>,
    },
    /// Minutes since midnight, local time.
    TimeOfDay(f64),
    /// Any number.
    Scalar(f64),
    /// A name.
    Class(String),
}

/// Why a label is not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum LabelFault {
    #[error("{0:?} is no frame id: that has 32 hexadecimal digits; leave the column `id` as it was sent")]
    Id(String),
    #[error("frame {0} is not in the archive: it was forgotten, or the label belongs to another archive")]
    UnknownFrame(FrameId),
    #[error("frame {id} was sent as {want:?} and comes back as {got:?}: labels and pictures were mixed up")]
    OtherPath { id: FrameId, want: String, got: String },
    #[error(
        "frame {id} was sent as {}×{} pixels and comes back as {}×{}: labels and pictures were mixed up",
        want[0], want[1], got[0], got[1]
    )]
    OtherSize { id: FrameId, want: [u32; 2], got: [u32; 2] },
    #[error("`{column}` is {got}, want {want}")]
    Value { column: &'static str, got: String, want: String },
    #[error(
        "box {index} is {got:?}, want [x, y, width, height] within the picture, in shares of its sides (0 to 1)"
    )]
    Box { index: usize, got: [f64; 4] },
    #[error("`count` is {value} and there are {boxes} boxes: leave one out, or make them agree")]
    Boxes { value: f64, boxes: usize },
    #[error("{what} is {got:?}, want 1 to {MAX_NAME_BYTES} bytes without control characters")]
    Name { what: &'static str, got: String },
}

impl Answer {
    /// From a value as a person or a platform wrote it.
    ///
    /// # Errors
    /// A value of another type than the task's, or out of its range.
    pub fn read(task: Task, value: &serde_json::Value, boxes: Vec<[f64; 4]>) -> Result<Self, LabelFault> {
        let number = || value.as_f64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        let wrong = |want: &str| LabelFault::Value {
            column: column(task),
            got: value.to_string(),
            want: want.into(),
        };
        let answer = match task {
            Task::Count if value.is_null() && !boxes.is_empty() => {
                Self::Count { value: boxes.len() as f64, boxes }
            }
            Task::Count => Self::Count { value: number().ok_or_else(|| wrong("a number from 0 up"))?, boxes },
            Task::TimeOfDay => Self::TimeOfDay(number().ok_or_else(|| wrong("a number of minutes"))?),
            Task::Scalar => Self::Scalar(number().ok_or_else(|| wrong("a number"))?),
            Task::Class => Self::Class(value.as_str().ok_or_else(|| wrong("a name"))?.trim().to_owned()),
        };
        answer.check().map(|()| answer)
    }

    pub(super) fn check(&self) -> Result<(), LabelFault> {
        let column = column(self.task());
        let wrong = |got: String, want: &str| Err(LabelFault::Value { column, got, want: want.to_owned() });
        match self {
            Self::Count { value, .. } if !(value.is_finite() && *value >= 0.0) => {
                wrong(value.to_string(), "a number from 0 up")
            }
            Self::Count { boxes, .. } if boxes.len() > MAX_BOXES => {
                wrong(format!("{} boxes", boxes.len()), "at most 10000 boxes")
            }
            Self::Count { value, boxes } => {
                let inside = |b: &[f64; 4]| {
                    b.iter().all(|v| (0.0..=1.0).contains(v))
                        && b[2] > 0.0
                        && b[3] > 0.0
                        && b[0] + b[2] <= 1.0 + 1e-9
                        && b[1] + b[3] <= 1.0 + 1e-9
                };
                if let Some(index) = boxes.iter().position(|it| !inside(it)) {
                    return Err(LabelFault::Box { index, got: boxes[index] });
                }
                if !boxes.is_empty() && *value != boxes.len() as f64 {
                    return Err(LabelFault::Boxes { value: *value, boxes: boxes.len() });
                }
                Ok(())
            }
            Self::TimeOfDay(value) if !(0.0..1440.0).contains(value) => {
                wrong(value.to_string(), "minutes from 0 to below 1440")
            }
            Self::Scalar(value) if !value.is_finite() => wrong(value.to_string(), "a finite number"),
            Self::Class(name) if !is_class_name(name) => {
                wrong(format!("{name:?}"), "a name of printable characters")
            }
            _ => Ok(()),
        }
    }

    /// What it answers.
    pub fn task(&self) -> Task {
        match self {
            Self::Count { .. } => Task::Count,
            Self::TimeOfDay(_) => Task::TimeOfDay,
            Self::Scalar(_) => Task::Scalar,
            Self::Class(_) => Task::Class,
        }
    }

    /// As it stands in a labels file.
    pub fn value(&self) -> serde_json::Value {
        match self {
            Self::Count { value, .. } | Self::TimeOfDay(value) | Self::Scalar(value) => (*value).into(),
            Self::Class(name) => name.as_str().into(),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Count { value, .. } | Self::TimeOfDay(value) | Self::Scalar(value) => Some(*value),
            Self::Class(_) => None,
        }
    }
}

/// One person's answer about one frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// What they say.
    pub answer: Answer,
    /// Who.
    pub who: String,
    /// When.
    pub at: Timestamp,
    /// Through what: `folder`, `page`, the name of a platform, with the batch.
    pub from: String,
    /// What the same person said before, oldest first: an answer that is changed is not lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Earlier>,
}

/// An answer that the same person changed later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// What they said.
    pub answer: Answer,
    /// When.
    pub at: Timestamp,
    /// Through what.
    pub from: String,
}

/// A label on its way into the archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Returned {
    /// Where it stands, for messages: `labels.csv line 3`.
    pub place: String,
    /// The frame.
    pub id: FrameId,
    /// The frame's path as it was sent along; checked if it came back.
    pub path: Option<String>,
    /// The label.
    pub label: Label,
}

/// What became of labels that came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Labels that were not there.
    pub new: usize,
    /// Those that were there already, the same: pulled twice.
    pub same: usize,
    /// Those in whose place another answer of the same person stood.
    pub changed: usize,
}

/// What several people say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Consensus {
    /// The median of numbers, the most frequent name; none where names are level.
    pub value: Option<serde_json::Value>,
    /// How many people.
    pub people: usize,
    /// Whether all said the same.
    pub agree: bool,
    /// Largest minus smallest number.
    pub spread: Option<f64>,
}

impl Consensus {
    /// Of labels of one task; `None` without any.
    pub fn of(labels: &[Label]) -> Option<Self> {
        let first = labels.first()?;
        let agree = labels.iter().all(|it| it.answer.value() == first.answer.value());
        let people = labels.len();
        let mut numbers: Vec<f64> = labels.iter().filter_map(|it| it.answer.number()).collect();
        if numbers.is_empty() {
            return Some(Self { value: most_frequent(labels), people, agree, spread: None });
        }
        numbers.sort_by(f64::total_cmp);
        let middle = numbers.len() / 2;
        let median = if numbers.len() % 2 == 1 {
            numbers[middle]
        } else {
            f64::midpoint(numbers[middle - 1], numbers[middle])
        };
        let spread = Some(numbers[numbers.len() - 1] - numbers[0]);
        Some(Self { value: Some(median.into()), people, agree, spread })
    }
}

/// The name that most say, unless two names are level.
fn most_frequent(labels: &[Label]) -> Option<serde_json::Value> {
    let count = |value: &serde_json::Value| labels.iter().filter(|it| it.answer.value() == *value).count();
    let best = labels.iter().map(|it| it.answer.value()).max_by_key(&count)?;
    let level = labels.iter().map(|it| it.answer.value()).any(|it| it != best && count(&it) == count(&best));
    (!level).then_some(best)
}

/// The name of a task in the index and on the command line.
pub(crate) fn task_name(task: Task) -> &'static str {
    match task {
        Task::Count => "count",
        Task::TimeOfDay => "time-of-day",
        Task::Scalar => "scalar",
        Task::Class => "class",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn label(who: &str, answer: Answer) -> Label {
        Label { answer, who: who.into(), at: Timestamp::UNIX_EPOCH, from: "test".into(), earlier: Vec::new() }
    }

    fn count(value: f64) -> Answer {
        Answer::Count { value, boxes: Vec::new() }
    }

    #[test]
    fn several_people_give_a_median_or_the_most_frequent_name() {
        let of = |answers: Vec<Answer>| {
            let labels: Vec<Label> = answers.into_iter().map(|it| label("x", it)).collect();
            Consensus::of(&labels).unwrap()
        };
        let three = of(vec![count(9.0), count(2.0), count(4.0)]);
        assert_eq!((three.value, three.agree, three.spread), (Some(json!(4.0)), false, Some(7.0)));
        assert_eq!(of(vec![count(2.0), count(4.0)]).value, Some(json!(3.0)));
        assert!(of(vec![count(2.0), count(2.0)]).agree);
        let class = |name: &str| Answer::Class(name.into());
        assert_eq!(of(vec![class("fog"), class("clear"), class("fog")]).value, Some(json!("fog")));
        assert_eq!(of(vec![class("fog"), class("clear")]).value, None, "level");
        assert_eq!(Consensus::of(&[]), None);
    }

    #[test]
    fn values_of_another_type_are_refused_with_what_is_wanted() {
        let read = |task, value| Answer::read(task, &value, Vec::new()).unwrap_err().to_string();
        assert_eq!(read(Task::Count, json!("many")), "`count` is \"many\", want a number from 0 up");
        assert_eq!(read(Task::Count, json!(-1)), "`count` is -1, want a number from 0 up");
        assert_eq!(read(Task::Class, json!(3)), "`class` is 3, want a name");
        assert_eq!(
            read(Task::TimeOfDay, json!(1440)),
            "`minute_of_day` is 1440, want minutes from 0 to below 1440"
        );
        assert_eq!(Answer::read(Task::Count, &json!(" 3 "), Vec::new()), Ok(count(3.0)), "CSV is text");
        let boxes = |value, boxes| Answer::read(Task::Count, &value, boxes);
        assert_eq!(
            boxes(json!(null), vec![[0.1, 0.1, 0.2, 0.2]]),
            Ok(Answer::Count { value: 1.0, boxes: vec![[0.1, 0.1, 0.2, 0.2]] })
        );
        assert!(
            boxes(json!(2), vec![[0.1, 0.1, 0.2, 0.2]])
                .unwrap_err()
                .to_string()
                .contains("2 and there are 1 boxes")
        );
        assert!(boxes(json!(1), vec![[0.9, 0.1, 0.2, 0.2]]).unwrap_err().to_string().contains("box 0 is"));
    }
}
