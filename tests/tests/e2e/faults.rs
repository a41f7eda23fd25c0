//! What the daemon keeps, and is reached by, is taken from it: forwarding goes on, and it says what is wrong.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dataplane::abi::{ABI_VERSION, maps};
use lab::layout::plan::Family;
use lab::peer::Implementation::WireguardGo;
use lab::scenario::{Farm, sessions_open};
use lab::wait::until;

use crate::common::{farm, holds, scrape};

const SOON: Duration = Duration::from_secs(20);

/// Runs a program that must do what it is told.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// A small file system over a directory, which goes with it.
struct Mount(PathBuf);

impl Mount {
    fn over(dir: &Path) -> Self {
        let path = dir.display().to_string();
        run("mount", &["-t", "tmpfs", "-o", "size=64k,mode=755", "fernpass-test", &path]);
        Self(dir.to_owned())
    }

    fn again(&self, options: &str) {
        run("mount", &["-o", &format!("remount,{options}"), &self.0.display().to_string()]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A directory that goes with its guard.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("fernpass-faults-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn state(farm: &Farm, backend: &str) -> String {
    let backends = farm.gateway().backends().unwrap();
    backends.into_iter().find(|b| b.name == backend).unwrap().state
}

fn is_said(farm: &Farm, words: &str) -> bool {
    let status = farm.gateway().call(&["status"]).unwrap();
    status["warnings"].to_string().contains(words)
}

#[test]
fn a_state_directory_that_is_full_damaged_or_read_only_stops_nothing() {
    let (_place, mut farm) = farm();
    farm.join(0, WireguardGo, Family::V4).unwrap();
    holds(&sessions_open(&farm).unwrap());
    let traffic = farm.traffic(0, 100).unwrap();
    let dir = PathBuf::from(&farm.config().gateway.state_dir);
    farm.gateway_mut().kill();
    let mount = Mount::over(&dir);
    farm.gateway_mut().run().unwrap();
    let backend = farm.backend_name(1);

    // Full: what cannot be kept is refused, and nothing has changed.
    let filler = dir.join("filler");
    fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
    let refused = farm.gateway().act(&["backend", "drain", &backend]).unwrap_err().to_string();
    assert!(refused.contains("cannot keep state"), "{refused}");
    let refused = farm.gateway().act(&["apply", "--confirm", "1h"]);
    assert!(refused.is_ok(), "the file is what is in force: nothing is on trial");
    assert_eq!(state(&farm, &backend), "active");
    fs::remove_file(&filler).unwrap();
    farm.gateway().act(&["backend", "drain", &backend]).unwrap();
    assert_eq!(state(&farm, &backend), "draining");

    // Cut off: it is put aside, and said.
    farm.gateway_mut().kill();
    let kept = dir.join("overrides.json");
    let text = fs::read(&kept).unwrap();
    fs::write(&kept, &text[..text.len() / 2]).unwrap();
    farm.gateway_mut().run().unwrap();
    assert!(is_said(&farm, "could not be understood") && dir.join("overrides.json.bad").exists());
    assert_eq!(state(&farm, &backend), "active");

    // So is what was kept of a configuration on trial: the file counts, as nothing is left to go back to.
    farm.gateway_mut().kill();
    let trial = dir.join("trial.json");
    fs::write(&trial, "{\"before\": \"").unwrap();
    farm.gateway_mut().run().unwrap();
    assert!(is_said(&farm, "it is not taken back") && dir.join("trial.json.bad").exists());

    // Read-only, also for a daemon that starts.
    farm.gateway().act(&["backend", "drain", &backend]).unwrap();
    mount.again("ro");
    let refused = farm.gateway().act(&["backend", "undrain", &backend]).unwrap_err().to_string();
    assert!(refused.contains("cannot keep state"), "{refused}");
    until("a warning", SOON, || Ok(is_said(&farm, "cannot keep state").then_some(()))).unwrap();
    // What is damaged then cannot even be put aside.
    mount.again("rw");
    fs::write(dir.join("trial.json"), "{").unwrap();
    mount.again("ro");
    farm.gateway_mut().kill();
    farm.gateway_mut().run().unwrap();
    assert_eq!(state(&farm, &backend), "draining");
    assert!(is_said(&farm, "cannot be put aside") && is_said(&farm, "cannot keep state"));
    mount.again("rw");
    farm.gateway().act(&["backend", "undrain", &backend]).unwrap();
    assert_eq!(state(&farm, &backend), "active");
    let tally = traffic.stop();
    assert_eq!(tally.lost, 0, "{tally:?}");
    farm.gateway_mut().kill();
}

/// The tenant's quota in force.
fn quota(farm: &Farm) -> u64 {
    farm.gateway().call(&["tenant", "list"]).unwrap()[0]["max_sessions"].as_u64().unwrap()
}

#[test]
fn a_configuration_is_taken_back_and_another_one_taken_though_nothing_can_be_kept() {
    let (_place, mut farm) = farm();
    let before = quota(&farm);
    let with = |farm: &Farm, max_sessions| {
        let mut config = farm.config().clone();
        config.tenant[0].max_sessions = max_sessions;
        farm.gateway().write(&config).unwrap();
    };
    farm.gateway_mut().kill();
    let mount = Mount::over(&PathBuf::from(&farm.config().gateway.state_dir));
    farm.gateway_mut().run().unwrap();
    with(&farm, 77);
    farm.gateway().act(&["apply", "--confirm", "10s"]).unwrap();
    assert_eq!(quota(&farm), 77);
    mount.again("ro");
    let refused = farm.gateway().act(&["confirm"]).unwrap_err().to_string();
    assert!(refused.contains("cannot keep state"), "{refused}");
    until("the return", SOON, || Ok(is_said(&farm, "was not confirmed").then_some(()))).unwrap();
    assert_eq!(quota(&farm), before);
    assert!(!is_said(&farm, "cannot be taken back") && is_said(&farm, "cannot keep state"));
    for args in [["confirm"], ["revert"]] {
        let refused = farm.gateway().act(&args).unwrap_err().to_string();
        assert!(refused.contains("no configuration is on trial"), "{refused}");
    }
    // What was kept says that this one is taken back: it would not outlive a restart.
    let refused = farm.gateway().act(&["reload"]).unwrap_err().to_string();
    assert!(refused.contains("cannot keep state") && quota(&farm) == before, "{refused}");
    // Not so another one.
    with(&farm, 78);
    farm.gateway().act(&["reload"]).unwrap();
    assert!(quota(&farm) == 78 && !is_said(&farm, "was not confirmed"));
    // As long as that stands there.
    with(&farm, 77);
    let refused = farm.gateway().act(&["reload"]).unwrap_err().to_string();
    assert!(refused.contains("cannot keep state") && quota(&farm) == 78, "{refused}");
    with(&farm, 78);
    farm.gateway_mut().kill();
    farm.gateway_mut().run().unwrap();
    assert!(quota(&farm) == 78 && !is_said(&farm, "was not confirmed"));
    farm.gateway_mut().kill();
}

#[test]
fn a_state_directory_that_cannot_be_made_keeps_no_gateway_from_forwarding() {
    let (_place, mut farm) = farm();
    farm.gateway_mut().kill();
    // Not where its socket is: there it may make directories.
    let scratch = Scratch::new();
    let place = scratch.0.join("no-directory");
    fs::write(&place, "").unwrap();
    let mut config = farm.config().clone();
    config.gateway.state_dir = place.join("state").display().to_string();
    farm.gateway().write(&config).unwrap();
    farm.gateway_mut().run().unwrap();
    farm.join(0, WireguardGo, Family::V4).unwrap();
    holds(&sessions_open(&farm).unwrap());
    assert!(is_said(&farm, "cannot keep state in"));

    // A daemon that gave up its rights has none for one that comes later.
    fs::remove_file(&place).unwrap();
    fs::create_dir_all(&config.gateway.state_dir).unwrap();
    let drain = ["backend", "drain", &farm.backend_name(1)];
    let refused = farm.gateway().act(&drain).unwrap_err().to_string();
    assert!(refused.contains("cannot keep state in"), "{refused}");
    until("a warning", SOON, || Ok(is_said(&farm, "restart it").then_some(()))).unwrap();
    farm.gateway_mut().kill();
    farm.gateway_mut().run().unwrap();
    farm.gateway().act(&drain).unwrap();
    assert!(!is_said(&farm, "cannot keep state in"));
    farm.gateway_mut().kill();
}

/// Who opens a pipe to read waits for somebody who writes: so does a disk that hangs.
#[test]
fn a_disk_that_answers_late_is_not_waited_for_and_what_it_tells_counts() {
    let (_place, mut farm) = farm();
    farm.join(0, WireguardGo, Family::V4).unwrap();
    holds(&sessions_open(&farm).unwrap());
    let traffic = farm.traffic(0, 100).unwrap();
    let dir = PathBuf::from(&farm.config().gateway.state_dir);
    let backend = farm.backend_name(1);
    farm.gateway().act(&["backend", "drain", &backend]).unwrap();
    let before = quota(&farm);
    farm.gateway_mut().kill();
    let trial = dir.join("trial.json");
    run("mkfifo", &[&trial.display().to_string()]);
    let mut tried = farm.config().clone();
    tried.tenant[0].max_sessions = 77;
    farm.gateway().write(&tried).unwrap();
    let tried = fs::read_to_string(farm.gateway().config_file()).unwrap();

    // It is not known yet that somebody has to confirm it, nor that a backend is drained.
    farm.gateway_mut().run().unwrap();
    assert_eq!((state(&farm, &backend).as_str(), quota(&farm)), ("active", 77));
    for words in ["does not answer", "it is not taken back", "drains and weights set at run time"] {
        assert!(is_said(&farm, words), "{words}");
    }
    for args in [&["backend", "undrain", &backend][..], &["confirm"]] {
        let refused = farm.gateway().act(args).unwrap_err().to_string();
        assert!(refused.contains("does not answer"), "{refused}");
    }
    // Its time was over long ago.
    farm.gateway().write(farm.config()).unwrap();
    let first = fs::read_to_string(farm.gateway().config_file()).unwrap();
    let kept = serde_json::json!({ "before": first, "tried": tried, "until": 1 });
    fs::write(&trial, kept.to_string()).unwrap();
    until("the drain", SOON, || Ok((state(&farm, &backend) == "draining").then_some(()))).unwrap();
    until("the return", SOON, || Ok((quota(&farm) == before).then_some(()))).unwrap();
    assert!(is_said(&farm, "was not confirmed"));
    farm.gateway().act(&["reload"]).unwrap();
    let warnings = || farm.gateway().call(&["status"]).map(|status| status["warnings"].clone());
    until("no warnings", SOON, || Ok((warnings()? == serde_json::json!([])).then_some(())))
        .unwrap();

    // It is as if nothing had been.
    farm.gateway_mut().kill();
    farm.gateway_mut().run().unwrap();
    assert_eq!((state(&farm, &backend).as_str(), quota(&farm)), ("draining", before));
    farm.gateway().act(&["backend", "undrain", &backend]).unwrap();
    let tally = traffic.stop();
    assert_eq!(tally.lost, 0, "{tally:?}");
    farm.gateway_mut().kill();
}

#[test]
fn a_bpffs_or_a_socket_that_is_gone_stops_nothing() {
    let (_place, mut farm) = farm();
    farm.join(0, WireguardGo, Family::V4).unwrap();
    holds(&sessions_open(&farm).unwrap());
    let traffic = farm.traffic(0, 100).unwrap();

    // The socket: it comes again by itself.
    let socket = PathBuf::from(farm.gateway().socket());
    fs::remove_file(&socket).unwrap();
    until("the socket", SOON, || Ok(farm.gateway().act(&["status"]).ok())).unwrap();
    // Another's in its place is said, and left alone.
    fs::remove_file(&socket).unwrap();
    let taken = UnixListener::bind(&socket).unwrap();
    let is_logged = |words: &str| farm.gateway().log().contains(words).then_some(());
    until("a line", SOON, || Ok(is_logged("is not this daemon's socket any more"))).unwrap();
    // Who cannot ask sees that something is wrong.
    let warnings = || {
        let (_, body) = scrape(&farm);
        let line = body.lines().find_map(|line| line.strip_prefix("fernpass_warnings "));
        line.unwrap().to_owned()
    };
    until("a warning", SOON, || Ok((warnings() == "1").then_some(()))).unwrap();
    drop(taken);
    fs::remove_file(&socket).unwrap();
    until("the socket", SOON, || Ok(farm.gateway().act(&["status"]).ok())).unwrap();
    until("no warning", SOON, || Ok((warnings() == "0").then_some(()))).unwrap();

    // A daemon that finds something else there says so, and takes nothing away. A socket that nobody answers at is stale.
    farm.gateway_mut().kill();
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "mine").unwrap();
    farm.gateway_mut().run().unwrap_err();
    let log = farm.gateway().log();
    let last = log.lines().last().unwrap();
    assert!(last.contains(&socket.display().to_string()), "{log}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "mine");
    fs::remove_file(&socket).unwrap();
    drop(UnixListener::bind(&socket).unwrap());
    farm.gateway_mut().run().unwrap();

    // A pin: it is there again at once, and the next daemon finds all.
    let bpffs = farm.config().gateway.bpffs.clone();
    let pins = PathBuf::from(&bpffs).join(format!("v{ABI_VERSION}"));
    let id = farm.session(0).unwrap().id;
    // All at once: the daemon looks for them each second.
    farm.gateway().hold(|| {
        for pin in [maps::SLOTS, maps::NAMES, "program"] {
            fs::remove_file(pins.join(pin)).unwrap();
        }
    });
    let are_again = "missing=\"SLOTS, NAMES, the program\"";
    until("the pins", SOON, || Ok(farm.gateway().log().contains(are_again).then_some(()))).unwrap();
    farm.gateway_mut().kill();
    farm.gateway_mut().run().unwrap();
    assert_eq!(farm.session(0).unwrap().id, id);
    let tally = traffic.stop();
    assert_eq!(tally.lost, 0, "{tally:?}");
    // All of them: with the links the program is off the interfaces, until they are there again.
    farm.gateway().hold(|| fs::remove_dir_all(&pins).unwrap());
    let links = || fs::read_dir(pins.join("links")).map_or(0, Iterator::count);
    until("the links", SOON, || Ok((links() == 3).then_some(()))).unwrap();
    farm.reach(0).unwrap();
    farm.gateway_mut().kill();
    farm.gateway_mut().run().unwrap();
    farm.reach(0).unwrap();
    assert_eq!(farm.session(0).unwrap().id, id);

    // The bpffs: what is there is forwarded on, and said.
    let traffic = farm.traffic(0, 100).unwrap();
    run("umount", &["-l", &bpffs]);
    until("a warning", SOON, || Ok(is_said(&farm, "a restart begins anew").then_some(()))).unwrap();
    assert!(is_said(&farm, "is no bpffs any more"));
    traffic.wait_for(200, SOON).unwrap();
    farm.join(0, WireguardGo, Family::V4).unwrap();
    farm.reach(1).unwrap();
    assert_eq!(farm.gateway().sessions().unwrap().len(), 2);
    let tally = traffic.stop();
    assert_eq!(tally.lost, 0, "{tally:?}");

    // Mounted again, it gets everything that the next daemon needs.
    run("mount", &["-t", "bpf", "fernpass-test", &bpffs]);
    until("the pins", SOON, || Ok((!is_said(&farm, "a restart begins anew")).then_some(())))
        .unwrap();
    let ids = |farm: &Farm| [0, 1].map(|member| farm.session(member).unwrap().id);
    let before = ids(&farm);
    // It is the daemon's own, as the one before.
    let refused = farm.gateway().act(&["unload", "--bpffs", &bpffs]).unwrap_err().to_string();
    assert!(refused.contains("daemon"), "{refused}");
    // The links are in the one that is gone. Larger tables would be used by nobody.
    assert!(is_said(&farm, "restart the daemon first"));
    let mut larger = farm.config().clone();
    larger.gateway.max_sessions *= 4;
    farm.gateway().write(&larger).unwrap();
    let refused = farm.gateway().act(&["reload"]).unwrap_err().to_string();
    assert!(refused.contains("restart the daemon first"), "{refused}");
    farm.reach(0).unwrap();
    farm.gateway_mut().kill();
    farm.gateway_mut().run().unwrap();
    assert_eq!(ids(&farm), before);
    farm.reach(0).unwrap();
    assert!(!is_said(&farm, "restart the daemon first"));
    let room = farm.gateway().call(&["status"]).unwrap()["max_sessions"].clone();
    assert_eq!(room, larger.gateway.max_sessions);
    run("umount", &["-l", &bpffs]);
    until("a warning", SOON, || Ok(is_said(&farm, "a restart begins anew").then_some(()))).unwrap();

    // And a restart begins anew: the sessions are learnt again from their traffic.
    farm.gateway_mut().kill();
    farm.gateway_mut().run().unwrap();
    assert!(!is_said(&farm, "a restart begins anew"));
    for member in 0..2 {
        farm.reach(member).unwrap();
        farm.session(member).unwrap();
    }
}
