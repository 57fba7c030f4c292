//! The real programs as child processes, ended with whoever started them.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// How often a file or a child's end is looked for.
const POLL: Duration = Duration::from_millis(20);

/// Of the times in `/proc`: the same on every Linux machine, whatever its kernel's timer does.
const TICKS_PER_SECOND: u64 = 100;

/// Path of a program of this workspace, beside the running one.
///
/// # Errors
/// The program has not been built; the message says how.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the path of the running program")?;
    let folders = own.ancestors().skip(1).take(2);
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built beside {}: cargo build -p {name}", own.display()))
}

/// Runs a program of this workspace to its end.
///
/// # Errors
/// The program failed; the message holds what it printed.
pub fn run(name: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> anyhow::Result<String> {
    let output = Command::new(program(name)?).args(args).stdin(Stdio::null()).output()?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{name} failed ({}):\n{out}{err}", output.status);
    }
    Ok(format!("{out}{err}"))
}

/// A running child whose standard error goes to a file; killed when dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a program of this workspace; its standard output is piped, its standard error goes to `log`.
    ///
    /// # Errors
    /// The program is not built or does not start, or `log` cannot be written.
    pub fn start(
        name: &str,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        Self::start_in(Command::new(program(name)?).args(args), name, log)
    }

    /// Starts any command the same way.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub fn start_in(command: &mut Command, name: &str, log: &Path) -> anyhow::Result<Self> {
        let stderr = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child's standard output, once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// What the child has written to standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Resident memory, bytes.
    ///
    /// # Errors
    /// The process is gone.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .with_context(|| format!("{} is gone", self.name))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS line")?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }

    /// Processor time that it has used so far, in user space and in the kernel.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))
            .with_context(|| format!("{} is gone", self.name))?;
        // The name before may hold anything but ends at the last parenthesis; then fields 3, 4, … (proc(5)).
        let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let [user, system] = [11, 12].map(|at| fields.get(at).and_then(|text| text.parse::<u64>().ok()));
        let ticks = user.zip(system).map(|(user, system)| user + system).context("no times in stat")?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// How many files and sockets it has open.
    ///
    /// # Errors
    /// The process is gone.
    pub fn open_files(&self) -> anyhow::Result<usize> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid()));
        Ok(open.with_context(|| format!("{} is gone", self.name))?.count())
    }

    /// Waits until `path` exists and returns its text, while the child lives.
    ///
    /// # Errors
    /// The child ended first, or `within` passed; the message holds the child's log.
    pub fn wait_for_file(&mut self, path: &Path, within: Duration) -> anyhow::Result<String> {
        let until = Instant::now() + within;
        loop {
            if let Ok(text) = fs::read_to_string(path)
                && !text.is_empty()
            {
                return Ok(text);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before it was ready:\n{}", self.name, self.log());
            }
            if Instant::now() > until {
                bail!("{} was not ready within {within:?}:\n{}", self.name, self.log());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits until the child's standard error holds `text`, while the child lives.
    ///
    /// # Errors
    /// The child ended first, or `within` passed; the message holds the child's log.
    pub fn wait_for_log(&mut self, text: &str, within: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        while !self.log().contains(text) {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) without saying `{text}`:\n{}", self.name, self.log());
            }
            if Instant::now() > until {
                bail!("{} did not say `{text}` within {within:?}:\n{}", self.name, self.log());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Sends a signal by name, such as `TERM`.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status()?;
        if !status.success() {
            bail!("cannot send {name} to {} ({})", self.name, self.pid());
        }
        Ok(())
    }

    /// Waits for the child's end.
    ///
    /// # Errors
    /// `within` passed; the message holds the child's log.
    pub fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("{} did not end within {within:?}:\n{}", self.name, self.log());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks the child to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub fn stop(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal("TERM")?;
        self.wait(within)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is fine; there is nobody left to tell otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
