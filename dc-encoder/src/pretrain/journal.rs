//! What people look at: a table of steps (`log.csv`) and TensorBoard's event files, both in the run's folder.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::board::{Board, Image};
use super::validate::Validation;

/// The table's name in the run's folder.
pub(super) const TABLE: &str = "log.csv";
const HEADER: &str =
    "step,loss,latent_loss,lr,grad_norm,images_per_s,val_loss,val_loss_of_means,effective_rank";

/// One step's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Steps done.
    pub step: u64,
    /// Training loss, the mean since the row before.
    pub loss: f64,
    /// Error of the latent tokens' readout, where there is one.
    pub latent: Option<f64>,
    /// Learning rate.
    pub rate: f64,
    /// Length of the gradient before clipping.
    pub norm: f64,
    /// Frames trained on in a second, since the row before.
    pub images_per_s: f64,
}

pub(super) struct Journal {
    table: BufWriter<File>,
    board: Board<BufWriter<File>>,
    /// The files, for messages.
    pub(super) table_path: PathBuf,
    pub(super) board_path: PathBuf,
}

impl Journal {
    /// Opens both in `folder`, going on after `step`: later rows of an earlier run are dropped.
    pub(super) fn open(folder: &Path, step: u64) -> Result<Self, (PathBuf, io::Error)> {
        let table_path = folder.join(TABLE);
        let table = open_table(&table_path, step).map_err(|error| (table_path.clone(), error))?;
        let board_path = folder.join(format!("events.out.tfevents.{:.6}.dc-encoder", wall_time()));
        let board = File::create(&board_path)
            .and_then(|file| Board::new(BufWriter::new(file), wall_time(), step))
            .map_err(|error| (board_path.clone(), error))?;
        Ok(Self { table, board, table_path, board_path })
    }

    /// Writes a step's row, with a validation if there was one.
    pub(super) fn row(
        &mut self,
        row: &Row,
        validation: Option<&Validation>,
    ) -> Result<(), (PathBuf, io::Error)> {
        let table = line(&mut self.table, row, validation).and_then(|()| self.table.flush());
        table.map_err(|error| (self.table_path.clone(), error))?;
        let mut values = vec![
            ("loss/train", row.loss),
            ("learning_rate", row.rate),
            ("gradient_norm", row.norm),
            ("images_per_s", row.images_per_s),
        ];
        values.extend(row.latent.map(|latent| ("loss/latent", latent)));
        if let Some(validation) = validation {
            values.push(("loss/held_out", validation.loss));
            values.push(("loss/held_out_of_means", validation.loss_of_means));
            values.push(("effective_rank", validation.rank));
        }
        self.board
            .scalars(wall_time(), row.step, &values)
            .and_then(|()| self.board.flush())
            .map_err(|error| (self.board_path.clone(), error))
    }

    /// Writes a picture.
    pub(super) fn picture(
        &mut self,
        step: u64,
        tag: &str,
        image: Image<'_>,
    ) -> Result<(), (PathBuf, io::Error)> {
        self.board
            .picture(wall_time(), step, tag, image)
            .and_then(|()| self.board.flush())
            .map_err(|error| (self.board_path.clone(), error))
    }
}

/// Seconds since 1970.
fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn open_table(path: &Path, step: u64) -> io::Result<BufWriter<File>> {
    let kept = if step == 0 { String::new() } else { std::fs::read_to_string(path).unwrap_or_default() };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    writeln!(file, "{HEADER}")?;
    let whole = kept.rfind('\n').map_or("", |end| &kept[..end]);
    for line in whole.lines().skip(1) {
        let of = line.split(',').next().and_then(|of| of.parse::<u64>().ok());
        if of.is_some_and(|of| of <= step) {
            writeln!(file, "{line}")?;
        }
    }
    Ok(BufWriter::new(file))
}

fn line(out: &mut impl Write, row: &Row, validation: Option<&Validation>) -> io::Result<()> {
    let latent = row.latent.map(|value| value.to_string()).unwrap_or_default();
    write!(out, "{},{},{latent},{},{},{:.2},", row.step, row.loss, row.rate, row.norm, row.images_per_s)?;
    match validation {
        Some(Validation { loss, loss_of_means, rank, .. }) => writeln!(out, "{loss},{loss_of_means},{rank}"),
        None => writeln!(out, ",,"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64) -> Row {
        Row { step, loss: 0.5, latent: None, rate: 1e-3, norm: 2.0, images_per_s: 17.25 }
    }

    #[test]
    fn a_table_that_is_continued_drops_what_comes_after_the_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), 0).unwrap();
        let validation = Validation { loss: 0.25, loss_of_means: 1.0, rank: 3.0, rank_of: 8 };
        for step in 1..=4 {
            journal.row(&row(step), (step == 2).then_some(&validation)).unwrap();
        }
        drop(journal);
        // A kill may leave half a line.
        let path = dir.path().join(TABLE);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("5,0.1");
        std::fs::write(&path, text).unwrap();
        let mut journal = Journal::open(dir.path(), 2).unwrap();
        journal.row(&row(3), None).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [HEADER, "1,0.5,,0.001,2,17.25,,,", "2,0.5,,0.001,2,17.25,0.25,1,3", "3,0.5,,0.001,2,17.25,,,"]
        );
    }

    #[test]
    fn a_full_disk_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), 0).unwrap();
        journal.table = BufWriter::new(OpenOptions::new().write(true).open("/dev/full").unwrap());
        let (path, error) = journal.row(&row(1), None).unwrap_err();
        assert!(path.ends_with(TABLE));
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
