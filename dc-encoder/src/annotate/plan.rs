//! When a batch is sent, and when not. Pure: what waits, what was spent and the time come from outside.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::Batch;

/// Most frames of one batch.
const MOST_FRAMES: usize = 10_000;
/// What "a day" is: the last 24 hours, in every time zone.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The `[label]` table: when batches form by themselves.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// Frames that make a batch full.
    pub size: usize,
    /// When the oldest frame that waits is older, what waits is sent, full or not.
    #[serde(with = "humantime_serde")]
    pub age: Option<Duration>,
    /// Names to choose from, for classes.
    pub classes: Vec<String>,
    /// What may be spent.
    pub budget: Budget,
}

impl Default for Plan {
    fn default() -> Self {
        Self { size: 30, age: None, classes: Vec::new(), budget: Budget::default() }
    }
}

/// The `[label.budget]` table; what is not named is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Labels in 24 hours.
    pub labels_per_day: Option<u64>,
    /// Labels altogether.
    pub labels: Option<u64>,
    /// Of one label, in whatever currency.
    pub price: Option<f64>,
    /// Money in 24 hours, in the same currency.
    pub money_per_day: Option<f64>,
    /// Money altogether.
    pub money: Option<f64>,
}

/// What was sent to platforms so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Labels in the last 24 hours, and altogether.
    pub labels: [u64; 2],
    /// Money, likewise.
    pub money: [f64; 2],
}

/// Why nothing is sent now.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum Held {
    #[error("no frame is worth a label: each looks like one that is labelled or on its way")]
    Nothing,
    #[error("{waiting} frames wait, a batch is full with {size}{}", age.map_or_else(String::new, |age| format!(" or when the oldest is {} old, it is {}", spoken(age), spoken(*oldest))))]
    NotFull { waiting: usize, size: usize, age: Option<Duration>, oldest: Duration },
    #[error("the budget's {key} is {limit}, {spent} are spent and {want} more are wanted{}", if key.ends_with("_per_day") { "; it frees up as 24 hours pass" } else { "; raise it in [label.budget] to go on" })]
    Budget { key: &'static str, limit: String, spent: String, want: String },
}

/// To the second.
fn spoken(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

impl Plan {
    /// What is wrong with it, in words.
    pub(super) fn fault(&self) -> Option<String> {
        let Budget { price, money_per_day, money, .. } = self.budget;
        let fits = |it: Option<f64>| it.is_none_or(|it| it.is_finite() && it > 0.0);
        if !(1..=MOST_FRAMES).contains(&self.size) {
            return Some(format!("[label] size is {}, want 1 to {MOST_FRAMES} frames", self.size));
        }
        for (key, value) in [("price", price), ("money_per_day", money_per_day), ("money", money)] {
            if !fits(value) {
                return Some(format!(
                    "[label.budget] {key} is {}, want a number above 0",
                    value.unwrap_or_default()
                ));
            }
        }
        if price.is_none() && (money_per_day.is_some() || money.is_some()) {
            return Some("[label.budget] limits money and has no price: say what one label costs".to_owned());
        }
        None
    }

    /// How many of the frames that wait are sent now; `oldest` is how long ago the oldest of them came in.
    ///
    /// # Errors
    /// [`Held`] if none are.
    pub fn decide(&self, waiting: usize, oldest: Duration, left: u64) -> Result<usize, Held> {
        let &Self { size, age, .. } = self;
        if waiting == 0 {
            return Err(Held::Nothing);
        }
        if waiting < size && age.is_none_or(|age| oldest < age) {
            return Err(Held::NotFull { waiting, size, age, oldest });
        }
        Ok(waiting.min(size).min(usize::try_from(left).unwrap_or(usize::MAX)))
    }
}

impl Budget {
    /// Frames that may still be sent, when each gets `each` labels; as many as one likes without a limit.
    ///
    /// # Errors
    /// [`Held::Budget`] if there is not enough for one.
    pub fn left(&self, each: u64, spent: Spent) -> Result<u64, Held> {
        self.allows(each, spent)?;
        let each = each.max(1);
        let labels = [(self.labels_per_day, 0), (self.labels, 1)];
        let labels =
            labels.into_iter().filter_map(|(limit, i)| Some(limit?.saturating_sub(spent.labels[i]) / each));
        let price = self.price.unwrap_or_default() * each as f64;
        let money = [(self.money_per_day, 0), (self.money, 1)];
        // A cent's rounding must not cost a label.
        let money = money
            .into_iter()
            .filter_map(|(limit, i)| Some(((limit? - spent.money[i]) / price + 1e-9) as u64));
        Ok(labels.chain(money).min().unwrap_or(u64::MAX))
    }

    /// Whether so many labels may be asked for.
    ///
    /// # Errors
    /// [`Held::Budget`], naming the limit that stands against it.
    pub fn allows(&self, labels: u64, spent: Spent) -> Result<(), Held> {
        for (key, limit, spent) in [
            ("labels_per_day", self.labels_per_day, spent.labels[0]),
            ("labels", self.labels, spent.labels[1]),
        ] {
            if let Some(limit) = limit.filter(|limit| spent + labels > *limit) {
                let (limit, spent, want) = (limit.to_string(), spent.to_string(), labels.to_string());
                return Err(Held::Budget { key, limit, spent, want });
            }
        }
        let want = self.price.unwrap_or_default() * labels as f64;
        for (key, limit, spent) in
            [("money_per_day", self.money_per_day, spent.money[0]), ("money", self.money, spent.money[1])]
        {
            if let Some(limit) = limit.filter(|limit| spent + want > *limit + 1e-9) {
                let [limit, spent, want] = [limit, spent, want].map(|it| format!("{it:.2}"));
                return Err(Held::Budget { key, limit, spent, want });
            }
        }
        Ok(())
    }
}

impl Spent {
    /// What these batches cost, seen from `now`. One that was begun counts whole: the rest of it will be sent.
    pub fn of(batches: &[(String, Batch)], now: Timestamp) -> Self {
        let mut spent = Self::default();
        for sent in batches.iter().filter_map(|(_, batch)| batch.sent.as_ref()) {
            let today = sent.at.is_some_and(|at| now.duration_since(at) < DAY);
            for i in if today { 0..2 } else { 1..2 } {
                spent.labels[i] += sent.labels;
                spent.money[i] += sent.money;
            }
        }
        spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotate::Sent;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_batch_goes_out_when_it_is_full_or_old_enough() {
        let plan = Plan { size: 30, age: Some(24 * HOUR), ..Plan::default() };
        let all = u64::MAX;
        assert_eq!(plan.decide(30, HOUR, all), Ok(30));
        assert_eq!(plan.decide(90, HOUR, all), Ok(30), "the rest waits for the next");
        assert_eq!(plan.decide(4, 24 * HOUR, all), Ok(4));
        assert_eq!(plan.decide(0, 24 * HOUR, all), Err(Held::Nothing));
        let held = plan.decide(29, 23 * HOUR, all).unwrap_err().to_string();
        assert_eq!(held, "29 frames wait, a batch is full with 30 or when the oldest is 1day old, it is 23h");
        let never = Plan { age: None, ..plan.clone() };
        assert!(never.decide(29, 1000 * HOUR, all).is_err());
        assert_eq!(plan.decide(30, HOUR, 7), Ok(7), "as far as the budget reaches");
    }

    #[test]
    fn no_limit_is_passed_and_the_one_that_holds_is_named() {
        let budget = Budget {
            labels_per_day: Some(100),
            labels: Some(1000),
            price: Some(0.1),
            money_per_day: Some(5.0),
            money: Some(60.0),
        };
        let spent =
            |day: u64, all: u64| Spent { labels: [day, all], money: [day as f64 * 0.1, all as f64 * 0.1] };
        assert_eq!(budget.left(1, spent(0, 0)), Ok(50), "money of a day is the least");
        assert_eq!(
            budget.left(1, spent(47, 300)),
            Ok(3),
            "0.1 is no binary number, and three labels are three"
        );
        assert_eq!(budget.left(2, spent(0, 0)), Ok(25));
        let held = |day, all| budget.left(1, spent(day, all)).unwrap_err().to_string();
        assert_eq!(
            held(50, 300),
            "the budget's money_per_day is 5.00, 5.00 are spent and 0.10 more are wanted; it frees up as 24 hours pass"
        );
        assert_eq!(
            held(0, 600),
            "the budget's money is 60.00, 60.00 are spent and 0.10 more are wanted; raise it in [label.budget] to go on"
        );
        assert_eq!(held(100, 300).split(',').next().unwrap(), "the budget's labels_per_day is 100");
        assert_eq!(
            budget.left(3, spent(48, 300)).unwrap_err().to_string().split(" is").next().unwrap(),
            "the budget's money_per_day"
        );
        assert_eq!(Budget::default().left(1, spent(9, 9)), Ok(u64::MAX));
        assert!(budget.allows(50, spent(0, 0)).is_ok() && budget.allows(51, spent(0, 0)).is_err());
    }

    #[test]
    fn what_was_sent_counts_for_a_day_and_for_ever() {
        let now: Timestamp = "2026-06-02T12:00:00Z".parse().unwrap();
        let batch = |hours: i64, labels| {
            let at = Some(now - SignedDuration::from_hours(hours));
            let sent = Sent { at, labels, money: labels as f64, ..Sent::default() };
            let batch =
                Batch { task: shared::head::Task::Count, frames: Vec::new(), made_at: now, sent: Some(sent) };
            (String::new(), batch)
        };
        let spent = Spent::of(&[batch(1, 5), batch(23, 7), batch(24, 11)], now);
        assert_eq!(spent, Spent { labels: [12, 23], money: [12.0, 23.0] });
    }

    #[test]
    fn plans_that_cannot_be_are_named() {
        let fault = |text: &str| toml::from_str::<Plan>(text).unwrap().fault();
        assert_eq!(fault("size = 30\nage = \"1day\"\n[budget]\nprice = 0.08\nmoney = 10"), None);
        assert_eq!(fault("size = 0").unwrap(), "[label] size is 0, want 1 to 10000 frames");
        assert_eq!(
            fault("[budget]\nprice = -1.0").unwrap(),
            "[label.budget] price is -1, want a number above 0"
        );
        assert!(fault("[budget]\nmoney = 5.0").unwrap().contains("has no price"));
        assert!(toml::from_str::<Plan>("sise = 3").is_err());
    }
}
