//! A head that is replaced while it answers: its second release is published to the running agent.
//!
//! ```text
//! operator (certificate, keys) ─► publish first ─► agent fetches it ─► answers … publish second ─► swap ─► answers
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::{
    answers::Line,
    process::Running,
    setup::{Prepared, Server, command, shown},
};

/// Where the releases of the people count follow each other.
const CHANNEL: &str = "people-count@stable";
/// The operator's name.
const OPERATOR: &str = "ann";
/// The first release learns from one in so many of the labels that the second one has.
const FEWER: usize = 4;
/// Unit of the people count, which tells its answers from the other head's.
pub(super) const UNIT: &str = "people";

/// Who publishes, and what.
#[derive(Debug)]
pub(super) struct Operator<'a> {
    prepared: &'a Prepared,
    dir: &'a Path,
    first: PathBuf,
}

impl<'a> Operator<'a> {
    /// Issues a certificate, and trains and signs a head from few labels, whose place the prepared one takes later.
    pub(super) fn new(prepared: &'a Prepared, dir: &'a Path) -> anyhow::Result<Self> {
        let labels_at_first = (prepared.training.len() / FEWER).to_string();
        println!("\nan operator, and a first release of the people count, from {labels_at_first} labels");
        command(&["pki", "issue", "--dir", &shown(&prepared.pki), "--operator", OPERATOR])?;
        let [embeddings, labels, first] =
            ["embeddings.safetensors", "training/labels.jsonl", "first.head.safetensors"]
                .map(|name| shown(&dir.join(name)));
        let train = ["head", "train", "--task", "count", "--kind", "linear", "--embeddings", &embeddings];
        let rows = format!("0..{labels_at_first}");
        let train = [&train[..], &["--labels", &labels, "--rows", &rows, "--out", &first]].concat();
        command(&train)?;
        command(&["head", "sign", &first, "--keys", &shown(&prepared.keys)])?;
        Ok(Self { prepared, dir, first: first.into() })
    }

    /// The plaza's live frames, as an agent's source.
    pub(super) fn live(&self) -> String {
        format!("list:{}", self.prepared.live.display())
    }

    /// Starts a server with a registry that gives all cameras the first release.
    pub(super) fn serve(&self) -> anyhow::Result<Server> {
        let root = shown(&self.prepared.keys.join("root.pub"));
        let registry = shown(&self.dir.join("registry"));
        let extra = ["--registry", &registry, "--release-root", &root];
        let server = self.prepared.serve_with(self.dir, "127.0.0.1:0", &extra)?;
        self.publish(&self.first, &server)?;
        Ok(server)
    }

    /// Starts an agent that has the other head, and gets the people count from the server.
    pub(super) fn agent(&self, server: &Server, args: &[&str]) -> anyhow::Result<Running> {
        let heads = self.prepared.heads.iter().skip(1).cloned().collect();
        let store = shown(&self.dir.join("heads"));
        let args = [&["--heads-dir", &store], args].concat();
        Prepared { heads, ..self.prepared.clone() }.agent(self.dir, &server.address, &args)
    }

    /// Publishes the second release.
    pub(super) fn swap(&self, server: &Server) -> anyhow::Result<()> {
        println!("      while it answers, a release from all labels:");
        let second = self.prepared.heads.first().context("a people count was prepared")?;
        self.publish(second, server)
    }

    fn publish(&self, head: &Path, server: &Server) -> anyhow::Result<()> {
        let certificate = self.prepared.pki.join("operators").join(OPERATOR);
        let publish = ["head", "publish", &shown(head), "--channel", CHANNEL, "--server", &server.address];
        let with = ["--cert", &shown(&certificate), "--keys", &shown(&self.prepared.keys)];
        let said = command(&[&publish[..], &with].concat())?;
        println!("      {}", said.lines().next().unwrap_or_default());
        Ok(())
    }
}

/// The answers of one release, one after another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reign {
    pub(super) release: String,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Who answered which frames. A frame takes its heads when it begins its way, and its lines are written when it ends it:
/// releases follow one another by number, not by line.
///
/// # Errors
/// A frame between the first and the last answer that has none, or two.
pub(super) fn reigns(lines: &[Line]) -> anyhow::Result<Vec<Reign>> {
    let mut reigns: Vec<Reign> = Vec::new();
    let counted = lines.iter().filter(|line| line.is_answer() && line.unit.as_deref() == Some(UNIT));
    let mut counted: Vec<&Line> = counted.collect();
    counted.sort_by_key(|line| line.seq);
    for line in counted {
        let release = line.release.clone().unwrap_or_default();
        if let Some(before) = reigns.last()
            && let Some(skipped) = missing(lines, before.last, line.seq)
        {
            bail!("frame {skipped} was answered by no release of the people count, or by two");
        }
        match reigns.last_mut() {
            Some(reign) if reign.release == release => reign.last = line.seq,
            _ => reigns.push(Reign { release, first: line.seq, last: line.seq }),
        }
    }
    Ok(reigns)
}

/// A frame after `last` and before `next` that was not dropped, or `next` itself if it is not after `last`.
fn missing(lines: &[Line], last: u64, next: u64) -> Option<u64> {
    let dropped = |seq: u64| lines.iter().any(|line| line.seq == seq && line.dropped.is_some());
    if next <= last { Some(next) } else { (last + 1..next).find(|seq| !dropped(*seq)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u64, release: &str) -> Line {
        let text = format!(
            r#"{{"camera":"a","seq":{seq},"captured_at":"2026-06-01T00:00:00.000Z","head":"people-count",
            "release":"{release}","value":2.5,"unit":"people","interval":null,"stale":false,"age_ms":12.0,"ms":{{}}}}"#
        );
        Line::parse(&text).unwrap()
    }

    fn dropped(seq: u64) -> Line {
        let text = format!(
            r#"{{"camera":"a","seq":{seq},"captured_at":"2026-06-01T00:00:00.000Z","dropped":"no link"}}"#
        );
        Line::parse(&text).unwrap()
    }

    #[test]
    fn each_frame_has_one_release_or_a_reason() {
        let lines = [line(3, "a"), line(4, "a"), dropped(5), line(6, "b"), line(7, "b")];
        let reign = |release: &str, first, last| Reign { release: release.into(), first, last };
        assert_eq!(reigns(&lines).unwrap(), [reign("a", 3, 4), reign("b", 6, 7)]);
        let skipped = reigns(&[line(3, "a"), line(5, "b")]).unwrap_err().to_string();
        assert!(skipped.contains("frame 4"), "{skipped}");
        let overtaken = [line(3, "a"), line(6, "b"), dropped(5), line(4, "a")];
        assert_eq!(reigns(&overtaken).unwrap(), [reign("a", 3, 4), reign("b", 6, 6)]);
        let twice = reigns(&[line(3, "a"), line(3, "b")]).unwrap_err().to_string();
        assert!(twice.contains("frame 3"), "{twice}");
    }
}
