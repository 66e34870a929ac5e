//! A file system that is full, under the database.

use std::{env, fs, io::Write as _, path::PathBuf, process::Command, sync::Arc, time::Instant};

use tokio::time::sleep;

use super::{Asks, Crowd, Phase, SECOND, prepare};
use crate::stores::Folder;

/// A file system of four megabytes.
struct Disk(Folder);

impl Disk {
    /// `None` where nothing can be mounted.
    fn mount() -> Option<Self> {
        let disk = Self(Folder::new("fault-full"));
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"]).arg(disk.path()).output();
        if mounted.is_ok_and(|done| done.status.success()) {
            return Some(disk);
        }
        let required = env::var("PORTCULLIS_TEST_SERVERS").is_ok_and(|value| value == "required");
        assert!(!required, "a file system of four megabytes cannot be mounted here");
        eprintln!("skipped: a file system of four megabytes cannot be mounted here");
        None
    }

    fn path(&self) -> PathBuf {
        self.0.file(".")
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.0.file("ballast")).unwrap();
        let error = loop {
            if let Err(error) = ballast.write_all(&[7; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn empty(&self) {
        fs::remove_file(self.0.file("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_193_a_disk_that_is_full_loses_nothing_and_lets_nobody_in() {
    let Some(disk) = Disk::mount() else { return };
    let store = format!("sqlite:{}", disk.0.file("a.db").display());
    let mut program = prepare("disk", &[("STORE", &store)]);
    // Beside the database, as it often is.
    program.log = disk.0.file("log");
    program.begin();
    let crowd = Crowd::begin(program.address);
    let writes = [Asks::SignIn, Asks::Refresh, Asks::SignOut, Asks::Register, Asks::Password];
    let ledger = Arc::clone(&crowd.client.ledger);
    let fault = async {
        disk.fill();
        // There is some room left in the files that are there, where the journal begins again from its start.
        let begun = Instant::now();
        while ledger.count(Phase::During, &writes, 503) == 0 && begun.elapsed() < 30 * SECOND {
            sleep(SECOND / 20).await;
        }
        sleep(3 * SECOND).await;
        disk.empty();
    };
    crowd.through(3 * SECOND / 2, fault, 3 * SECOND / 2).await;
    let ledger = crowd.settle().await;
    ledger.told(
        "the disk under SQLite and its log is full, for 3 s after the first refusal",
        "req_193_a_disk_that_is_full_loses_nothing_and_lets_nobody_in",
    );
    assert!(ledger.count(Phase::During, &writes, 503) > 0, "{}", program.log());
    // Who reads does not need room.
    for asks in [Asks::Token, Asks::User] {
        let (good, bad) = (ledger.count(Phase::During, &[asks], 200), ledger.count(Phase::During, &[asks], 503));
        assert!(good > 0 && bad == 0, "{good} {bad}");
    }
    assert!(ledger.recovery() < 2 * SECOND, "{:?}", ledger.recovery());
}
