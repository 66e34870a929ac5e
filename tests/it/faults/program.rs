//! `auth_server` as a process that can be killed, stopped, starved and started again, always at the same address.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use crate::{programs::command, stores::Folder};

pub struct Program {
    pub address: SocketAddr,
    /// Where it writes its log.
    pub log: PathBuf,
    folder: Folder,
    variables: Vec<(String, String)>,
    child: Option<Child>,
}

impl Program {
    /// One with these variables and a folder of its own, that is yet to begin.
    pub fn prepare(name: &str, variables: &[(&str, &str)]) -> Self {
        let folder = Folder::new(&format!("fault-{name}"));
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { address: free_address(), log: folder.file("log"), folder, variables, child: None }
    }

    /// Starts it, once more after it was killed, and returns when it listens.
    pub fn begin(&mut self) {
        let address = self.address.to_string();
        let variables = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let variables: Vec<_> = variables.chain([("LISTEN", address.as_str())]).collect();
        let mut command = command("auth_server", &self.folder, &variables);
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut child = command.stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listens = lines.any(|line| line.unwrap().starts_with("listening on "));
        self.child = Some(child);
        assert!(listens, "it ended: {}", self.log());
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Sends a signal such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// How many files it may have open.
    pub fn limit_files(&self, most: u32) {
        let limit = Command::new("prlimit")
            .args(["--pid", &self.pid().to_string()])
            .arg(format!("--nofile={most}:"))
            .stdin(Stdio::null())
            .status();
        assert!(limit.unwrap().success());
    }

    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Processor time that it has used.
    pub fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // After the name, which may be anything: fields 14 and 15 of all, in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Memory that it occupies, in KiB.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Below the ports that systems give to those who ask for any: while the program is down, none of its clients may get its port.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = NEXT.fetch_add(1, Ordering::SeqCst);
        let own = u16::try_from(std::process::id() % 1000).unwrap() * 12;
        let address = SocketAddr::from(([127, 0, 0, 1], 20_000 + (own + offset) % 12_000));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
