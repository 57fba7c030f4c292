//! The ledger as a person reads it: what a frame costs where, and what the alternatives would cost.

use std::fmt::Write as _;
use std::time::Duration;

use protocol::{CameraAccount, CameraHead, EdgeWork, Site};
use shared::image::{Chroma, jpeg_flops, resize_flops};

/// The thumbnail that a head on the box would look at, columns × rows; the frame it is made from is a seed's.
const THUMBNAIL: (u32, u32) = (20, 12);
const FRAME: (u32, u32) = (960, 576);

const COLUMNS: [&str; 9] =
    ["CAMERA", "FRAMES", "ENCODER", "HEADS", "PICTURES", "UP", "DOWN", "J ENCODER", "J BOX"];

/// What all cameras cost together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    /// Frames that were encoded.
    pub frames: u64,
    /// Operations in the encoder.
    pub flops: u64,
    /// Joules of the encoder.
    pub joules: f64,
    /// Bytes to the encoder and back.
    pub bytes: (u64, u64),
    /// What the boxes computed.
    pub edge: EdgeWork,
}

impl Sum {
    /// Of these accounts.
    #[must_use]
    pub fn of(accounts: &[CameraAccount]) -> Self {
        accounts.iter().fold(Self::default(), |sum, account| {
            let (edge, more) = (sum.edge, account.edge);
            Self {
                frames: sum.frames + account.frames,
                flops: sum.flops + account.flops,
                joules: sum.joules + account.joules,
                bytes: (sum.bytes.0 + account.received, sum.bytes.1 + account.sent),
                edge: EdgeWork {
                    frames: edge.frames + more.frames,
                    head_flops: edge.head_flops + more.head_flops,
                    picture_flops: edge.picture_flops + more.picture_flops,
                    cpu_us: edge.cpu_us + more.cpu_us,
                },
            }
        })
    }

    /// The datacenter's share of all operations, and of those without the work on pictures; 0 of none.
    #[must_use]
    pub fn datacenter_share(&self) -> (f64, f64) {
        let encoder = self.flops as f64;
        let share = |edge: u64| if encoder > 0.0 { encoder / (encoder + edge as f64) } else { 0.0 };
        (share(self.edge.head_flops + self.edge.picture_flops), share(self.edge.head_flops))
    }

    /// Joules of the boxes: processor time × what a busy core draws more.
    #[must_use]
    pub fn box_joules(&self, site: &Site) -> f64 {
        let core = site.camera_box.extra_watts / f64::from(site.camera_box.cores.max(1));
        Duration::from_micros(self.edge.cpu_us).as_secs_f64() * core
    }
}

/// Another way to have answers, per frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// What runs on the box.
    pub what: &'static str,
    /// Operations there.
    pub flops: u64,
    /// Seconds at the box's peak.
    pub seconds: f64,
    /// Joules in that time.
    pub joules: f64,
}

/// What a sceptic asks for: the same encoder on the box, and a head on a thumbnail there. At the box's peak, which no
/// program reaches: the box is given the benefit of the doubt.
#[must_use]
pub fn alternatives(site: &Site) -> [Alternative; 2] {
    let at_peak = |what, flops: u64| {
        let seconds = flops as f64 / (site.camera_box.gflops * 1e9);
        Alternative { what, flops, seconds, joules: seconds * site.camera_box.extra_watts }
    };
    let pixels = u64::from(FRAME.0) * u64::from(FRAME.1);
    let thumbnail = jpeg_flops(pixels, Chroma::C420) + resize_flops(FRAME, THUMBNAIL);
    [
        at_peak("the same encoder on the box", site.frame_flops),
        at_peak("a thumbnail for a head on the box (decoding and resizing a 960x576 JPEG)", thumbnail),
    ]
}

/// The whole page. `heads`: what cameras reported of theirs.
#[must_use]
pub fn page(site: &Site, accounts: &[CameraAccount], heads: &[CameraHead]) -> String {
    let mut text = header(site);
    let total = Sum::of(accounts);
    let mut rows: Vec<[String; 9]> = accounts
        .iter()
        .map(|account| row(&account.camera, &Sum::of(std::slice::from_ref(account)), site))
        .collect();
    if rows.len() != 1 {
        rows.push(row("all", &total, site));
    }
    text.push_str("\na frame of each camera (bytes are UDP payload):\n");
    text.push_str(&aligned(&rows));
    for CameraHead { camera, report, .. } in heads.iter().filter(|head| head.report.active.is_some()) {
        let _ = writeln!(
            text,
            "head {} on {camera}: {} an answer, {} answers",
            report.head,
            operations(report.flops as f64),
            report.answers
        );
    }
    text.push_str(&summary(site, &total));
    text
}

fn header(site: &Site) -> String {
    let Site { name, model, frame_flops, power, camera_box, .. } = site;
    let place = if name.is_empty() { String::new() } else { format!(" at {name}") };
    let time = humantime::format_duration(Duration::from_secs(site.for_ms / 1000));
    format!(
        "model {model}{place}: {} a whole frame; since {time}\nencoder's energy {power}\nboxes' energy modelled: \
         processor time × {:.2} W a core, as of a {}\n",
        operations(*frame_flops as f64),
        camera_box.extra_watts / f64::from(camera_box.cores.max(1)),
        camera_box.name
    )
}

fn summary(site: &Site, total: &Sum) -> String {
    let mut text = String::new();
    if total.flops == 0 {
        return "no frame was encoded yet\n".to_owned();
    }
    let (all, heads) = total.datacenter_share();
    let _ = writeln!(
        text,
        "\nshare of the operations in the datacenter: {:.2} %; without the boxes' work on pictures {:.4} %",
        100.0 * all,
        100.0 * heads
    );
    let joules = total.joules + total.box_joules(site);
    let frame = joules / total.frames as f64;
    let _ = write!(text, "energy: {} a frame (encoder and box)", quantity(frame, "J"));
    if let Some(grid) = site.grid_gco2_per_kwh {
        let thousand = frame * 1000.0 / 3.6e6 * grid;
        let _ = write!(text, ", {thousand:.3} gCO2 for 1000 frames at {grid} g/kWh");
    }
    let _ = writeln!(text, "; {} in seconds without a frame", quantity(site.idle_joules, "J"));
    text.push_str("for comparison, a frame at the box's peak (modelled):\n");
    for Alternative { what, flops, seconds, joules } in alternatives(site) {
        let _ = writeln!(
            text,
            "  {what}: {}, {}, {}",
            operations(flops as f64),
            quantity(seconds, "s"),
            quantity(joules, "J")
        );
    }
    text
}

fn row(camera: &str, sum: &Sum, site: &Site) -> [String; 9] {
    let each = |of: f64| of / sum.frames.max(1) as f64;
    let (up, down) = sum.bytes;
    [
        camera.to_owned(),
        sum.frames.to_string(),
        operations(each(sum.flops as f64)),
        operations(each(sum.edge.head_flops as f64)),
        operations(each(sum.edge.picture_flops as f64)),
        quantity(each(up as f64), "B"),
        quantity(each(down as f64), "B"),
        quantity(each(sum.joules), "J"),
        quantity(each(sum.box_joules(site)), "J"),
    ]
}

fn aligned(rows: &[[String; 9]]) -> String {
    let mut widths = COLUMNS.map(|name| name.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 9]| {
        let padded: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    std::iter::once(&COLUMNS.map(str::to_owned)).chain(rows).map(line).collect()
}

fn operations(count: f64) -> String {
    quantity(count, "FLOP")
}

/// Three digits and a prefix: `3.44 GFLOP`, `41.2 kB`, `12 mJ`.
fn quantity(value: f64, unit: &str) -> String {
    let (scale, prefix) = match value.abs() {
        0.0 => (1.0, ""),
        x if x >= 1e12 => (1e12, "T"),
        x if x >= 1e9 => (1e9, "G"),
        x if x >= 1e6 => (1e6, "M"),
        x if x >= 1e3 => (1e3, "k"),
        x if x >= 1.0 => (1.0, ""),
        x if x >= 1e-3 => (1e-3, "m"),
        _ => (1e-6, "µ"),
    };
    let scaled = value / scale;
    let digits = match scaled.abs() {
        x if x >= 100.0 => 0,
        x if x >= 10.0 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$} {prefix}{unit}")
}

#[cfg(test)]
mod tests {
    use protocol::BoxModel;

    use super::*;

    fn site() -> Site {
        Site {
            name: "hall 3".into(),
            for_ms: 61_000,
            model: "seed-80m".into(),
            frame_flops: 37_600_000_000,
            power: "modelled: 7.5 W".into(),
            metered: false,
            idle_joules: 12.0,
            grid_gco2_per_kwh: Some(360.0),
            camera_box: BoxModel { name: "Pi".into(), cores: 4, extra_watts: 3.2, gflops: 48.0 },
        }
    }

    fn account(camera: &str) -> CameraAccount {
        let edge = EdgeWork { frames: 10, head_flops: 20_000, picture_flops: 200_000_000, cpu_us: 1_000_000 };
        CameraAccount {
            camera: camera.into(),
            frames: 10,
            flops: 376_000_000_000,
            busy_us: 1_000_000,
            joules: 9.2,
            received: 412_000,
            sent: 20_000,
            edge,
        }
    }

    #[test]
    fn a_page_says_what_a_frame_costs_and_where() {
        let page = page(&site(), &[account("plaza-1")], &[]);
        for words in [
            "model seed-80m at hall 3: 37.6 GFLOP a whole frame; since 1m 1s",
            "× 0.80 W a core, as of a Pi",
            "plaza-1  10      37.6 GFLOP  2.00 kFLOP  20.0 MFLOP  41.2 kB  2.00 kB  920 mJ     80.0 mJ",
            "share of the operations in the datacenter: 99.95 %; without the boxes' work on pictures 100.0000 %",
            // 1 J a frame: 1000 J are 0.278 Wh, times 360 g/kWh.
            "energy: 1.00 J a frame (encoder and box), 0.100 gCO2 for 1000 frames at 360 g/kWh; 12.0 J in seconds",
            "the same encoder on the box: 37.6 GFLOP, 783 ms, 2.51 J",
        ] {
            assert!(page.contains(words), "{words:?} is not in\n{page}");
        }
        assert!(!page.contains("\nall "), "one camera needs no sum:\n{page}");
    }

    #[test]
    fn several_cameras_are_added_up_and_none_is_no_error() {
        let two = [account("a"), account("b")];
        assert_eq!(Sum::of(&two).frames, 20);
        assert!(page(&site(), &two, &[]).contains("\nall "));
        let nothing = page(&site(), &[], &[]);
        assert!(nothing.contains("no frame was encoded yet"), "{nothing}");
        let unsaid = Site { grid_gco2_per_kwh: None, ..site() };
        assert!(!page(&unsaid, &two, &[]).contains("CO2"));
    }

    #[test]
    fn quantities_have_three_digits() {
        let said = [0.0, 2e-5, 0.92, 1.0, 41_234.0, 3.44e9].map(|value| quantity(value, "J"));
        assert_eq!(said, ["0.00 J", "20.0 µJ", "920 mJ", "1.00 J", "41.2 kJ", "3.44 GJ"]);
    }
}
