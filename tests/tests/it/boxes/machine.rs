//! A virtual camera box: qemu with a Debian kernel, the kernel's virtual camera, and a port that runs commands.
//!
//! ```text
//! test ─ run("edge-agent check") ─► socket ─► virtio port `command` ─► shell in the box
//!      ◄─ status, output ──────────◄                                ◄─
//!      ◄─ JSON lines ─────────────◄ virtio port `answers` ◄─ edge-agent run
//! ```

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use tests::answers::Line;

/// A kernel that is emulated instruction by instruction boots in ten seconds on a free machine, and systemd in forty.
const BOOT_WITHIN: Duration = Duration::from_secs(300);
/// Nothing in a box takes this long unless it hangs.
const GUARD: Duration = Duration::from_secs(180);
/// How often a socket or a condition is looked for.
const POLL: Duration = Duration::from_millis(100);

/// What is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    X86_64,
    Aarch64,
    Armv7,
}

impl Architecture {
    /// Debian's name.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
            Self::Armv7 => "armhf",
        }
    }

    /// The emulator, and how its devices hang together.
    fn emulator(self) -> (&'static str, &'static [&'static str], &'static str, &'static str) {
        match self {
            // TCG everywhere: nested virtualisation is not to be had on every machine that runs this.
            Self::X86_64 => ("qemu-system-x86_64", &["-cpu", "max", "-smp", "2"], "pci", "ttyS0"),
            Self::Aarch64 => (
                "qemu-system-aarch64",
                &["-M", "virt", "-cpu", "cortex-a72", "-smp", "2"],
                "device",
                "ttyAMA0",
            ),
            Self::Armv7 => ("qemu-system-arm", &["-M", "virt", "-cpu", "cortex-a15"], "device", "ttyAMA0"),
        }
    }
}

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Hardware {
    pub architecture: Architecture,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// Its root, and what the test put beside it. They keep what was written, whatever happens to the machine.
    pub disks: [PathBuf; 2],
    /// What its clock says at power-on; `None`: what this machine's says.
    pub clock: Option<&'static str>,
}

/// A machine that runs; its power is cut when dropped.
#[derive(Debug)]
pub struct Machine {
    emulator: Child,
    port: BufReader<UnixStream>,
    lines: Receiver<String>,
    console: PathBuf,
    on: Instant,
    /// All lines of the agent so far.
    pub seen: Vec<Line>,
}

/// What came of a command.
#[derive(Debug)]
pub struct Output {
    pub status: i32,
    pub text: String,
}

impl Machine {
    /// Power on; returns when the box takes commands. Sockets and the console's log lie in `dir`.
    pub fn boot(hardware: &Hardware, dir: &Path) -> Self {
        let (program, board, bus, tty) = hardware.architecture.emulator();
        let console = dir.join("console.log");
        let sockets = ["command", "answers"].map(|name| (name, dir.join(name)));
        let mut command = Command::new(program);
        command.args(board).args([
            "-accel",
            "tcg",
            "-m",
            "768",
            "-display",
            "none",
            "-no-reboot",
            "-nodefaults",
        ]);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        command.arg("-kernel").arg(&hardware.kernel).arg("-initrd").arg(&hardware.initrd);
        command.args(["-append", &format!("console={tty} quiet panic=-1")]);
        for (name, disk) in ["root", "world"].iter().zip(&hardware.disks) {
            command.arg("-drive").arg(format!("file={},if=none,id={name},format=raw", disk.display()));
            command.args(["-device", &format!("virtio-blk-{bus},drive={name},serial={name}")]);
        }
        command.args(["-netdev", "user,id=net", "-device", &format!("virtio-net-{bus},netdev=net")]);
        command.args(["-device", &format!("virtio-rng-{bus}"), "-device", &format!("virtio-serial-{bus}")]);
        for (name, socket) in &sockets {
            let _ = fs::remove_file(socket);
            command
                .arg("-chardev")
                .arg(format!("socket,id={name},path={},server=on,wait=off", socket.display()));
            command.args(["-device", &format!("virtserialport,chardev={name},name={name}")]);
        }
        if let Some(clock) = hardware.clock {
            command.args(["-rtc", &format!("base={clock}")]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let on = Instant::now();
        let emulator = command.spawn().unwrap_or_else(|error| {
            panic!("{program}: {error}; apt-get install qemu-system-x86 qemu-system-arm (make test-boxes does it)")
        });
        let [port, answers] = sockets.map(|(_, socket)| connect(&socket));
        port.set_read_timeout(Some(BOOT_WITHIN)).unwrap();
        let (sender, lines) = sync_channel(1 << 16);
        std::thread::spawn(move || {
            BufReader::new(answers).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut machine = Self { emulator, port: BufReader::new(port), lines, console, on, seen: Vec::new() };
        assert_eq!(machine.line(), "ready");
        machine.port.get_ref().set_read_timeout(Some(GUARD)).unwrap();
        machine
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        match self.port.read_line(&mut line) {
            Ok(length) if length > 0 => line.trim_end().to_owned(),
            other => panic!("the box does not answer ({other:?}); its console:\n{}", self.console()),
        }
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Says what comes now, and how long it is after power-on.
    pub fn step(&self, what: &str) {
        println!("{:4.0} s  {what}", self.on.elapsed().as_secs_f64());
    }

    /// Runs a line of shell in the box.
    pub fn run(&mut self, command: &str) -> Output {
        assert!(!command.contains('\n'), "a line: {command}");
        self.port.get_mut().write_all(format!("{command}\n").as_bytes()).unwrap();
        let header = self.line();
        let (status, length) = header.split_once(' ').unwrap_or_else(|| panic!("no status: {header}"));
        let mut text = vec![0; length.trim().parse().unwrap()];
        self.port.read_exact(&mut text).unwrap();
        Output { status: status.parse().unwrap(), text: String::from_utf8_lossy(&text).into_owned() }
    }

    /// Runs a command that must succeed; its output.
    pub fn ok(&mut self, command: &str) -> String {
        let Output { status, text } = self.run(command);
        assert_eq!(status, 0, "{command}:\n{text}\nthe agent:\n{}", self.agent_log());
        text
    }

    /// What the agent said last.
    pub fn agent_log(&mut self) -> String {
        self.run("tail -n 40 /run/agent.log 2>/dev/null || journalctl -u edge-agent -n 60 --no-pager").text
    }

    /// Runs a command until its output has these words.
    pub fn until(&mut self, command: &str, words: &str) -> String {
        let end = Instant::now() + GUARD;
        loop {
            let text = self.run(command).text;
            if text.contains(words) {
                return text;
            }
            assert!(Instant::now() < end, "{words} never came:\n{text}\nthe agent:\n{}", self.agent_log());
            std::thread::sleep(POLL);
        }
    }

    /// Reads the agent's lines until one is as wanted.
    pub fn answer(&mut self, what: &str, wanted: impl Fn(&Line) -> bool) -> Line {
        let end = Instant::now() + GUARD;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(text) => {
                    // A power cut ends in the middle of a line, and a journal has other programs' lines.
                    let Ok(line) = Line::parse(&text) else { continue };
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what}; the agent:\n{}", self.agent_log()),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the box ended; its console:\n{}", self.console())
                }
            }
        }
    }

    /// Forgets the lines that were printed already: what is awaited next is news.
    pub fn catch_up(&mut self) {
        self.seen.extend(self.lines.try_iter().filter_map(|text| Line::parse(&text).ok()));
    }

    /// Nothing that the box had not yet written to its disks remains.
    pub fn cut_power(mut self) {
        self.emulator.kill().unwrap();
        self.emulator.wait().unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may be off already.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

fn connect(socket: &Path) -> UnixStream {
    let end = Instant::now() + GUARD;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return stream,
            Err(error) if Instant::now() > end => panic!("{}: {error}", socket.display()),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}
