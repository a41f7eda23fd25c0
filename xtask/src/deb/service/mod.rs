//! What must be true of the daemon's service where a real systemd runs it, with traffic between a client and a concentrator.

mod scripts;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::checks::{Checks, is};
use crate::vm::{Guest, Kernel};
use scripts::{AWAIT, BEGIN, CONFIGURATION, COUNTED, ECHO, END, NETWORK, PATIENCE, TRAFFIC};

const PACKAGE: &str = "/root/fernpass.deb";
/// All checks.
pub(super) fn all(package: &Path, kernel: Kernel) -> anyhow::Result<()> {
    let mut guest = Guest::start(
        kernel,
        &[
            (PACKAGE, &fs::read(package)?),
            ("/opt/traffic", TRAFFIC.as_bytes()),
            ("/opt/echo", ECHO.as_bytes()),
        ],
    )?;
    let mut checks = Checks::default();
    println!("Linux {}", guest.shell("uname -r; systemctl --version | head -1")?.trim());
    guest.shell(NETWORK)?;
    guest.shell(PATIENCE)?;
    guest.shell("ip netns exec s python3 /opt/echo > /dev/null 2>&1 < /dev/null &")?;
    start(&mut guest, &mut checks)?;
    reload(&mut guest, &mut checks);
    interruptions(&mut guest, &mut checks);
    end(&mut guest, &mut checks)?;
    checks.end()
}

fn start(guest: &mut Guest, checks: &mut Checks) -> anyhow::Result<()> {
    checks.need("the package is installed", guest.shell(&format!("dpkg -i {PACKAGE} 2>&1")))?;
    checks.note(
        "nothing is started or enabled",
        guest
            .shell("systemctl is-active fernpass || true; systemctl is-enabled fernpass || true")
            .and_then(|said| is(&said, "inactive\ndisabled\n")),
    );
    guest.shell(&format!("cat > /etc/fernpass/fernpass.toml <<'END'{CONFIGURATION}END"))?;
    checks.need(
        "it is enabled and started, and has said that it forwards",
        guest
            .shell(
                "systemctl enable --now fernpass 2>&1 || { journalctl -u fernpass -n 50; exit 1; }",
            )
            .and_then(|_| guest.shell("systemctl is-active fernpass")),
    )?;
    checks.note("it is a user of its own, with four capabilities and a filter", rights(guest));
    checks.note("a session opens through it", session(guest).map(|_| ()));
    checks.note(
        "who is not in its group may not ask it",
        guest.shell("! setpriv --reuid nobody --clear-groups fernpass status").map(|_| ()),
    );
    checks.told(
        "systemd calls its exposure small",
        guest.shell("systemd-analyze security --no-pager fernpass | tail -1").and_then(|said| {
            let level = said.split_whitespace().find_map(|word| word.parse::<f64>().ok());
            ensure!(level.is_some_and(|level| level < 2.3), "{said}");
            Ok(format!("{:?} of 10", level.unwrap_or_default()))
        }),
    );
    checks.note("the journal has its messages with their fields", journal(guest));
    Ok(())
}

fn rights(guest: &mut Guest) -> anyhow::Result<()> {
    let status = guest.shell("cat /proc/$(systemctl show --value -p MainPID fernpass)/status")?;
    let line = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
        line.unwrap_or_default().to_owned()
    };
    let uid = guest.shell("id -u fernpass")?;
    is(line("Uid").split('\t').next().unwrap_or_default(), uid.trim())?;
    // CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF: 12, 13, 38, 39.
    is(&line("CapEff"), "000000c000003000")?;
    is(&line("NoNewPrivs"), "1")?;
    is(&line("Seccomp"), "2")
}

/// The only session, which has to be open.
fn session(guest: &mut Guest) -> anyhow::Result<String> {
    guest.shell("ip netns exec c ping -q -c 5 -i 0.2 -w 30 10.99.0.1")?;
    let list = guest.shell("fernpass -j session list")?;
    let list: Value = serde_json::from_str(&list).with_context(|| list.clone())?;
    let list = list.get("sessions").unwrap_or(&list);
    let sessions = list.as_array().context("no list of sessions")?;
    ensure!(sessions.len() == 1 && sessions[0]["state"] == "open", "{list}");
    let id = sessions[0]["id"].as_str().context("a session without an id")?;
    Ok(id.to_owned())
}

fn journal(guest: &mut Guest) -> anyhow::Result<()> {
    let lines = guest.shell("journalctl -u fernpass -o json --no-pager")?;
    let entries: Vec<Value> =
        lines.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(lines.clone())?;
    let own: Vec<_> = entries.iter().filter(|e| e["_COMM"] == "fernpass").collect();
    ensure!(!own.is_empty(), "it has none: {lines}");
    ensure!(own.iter().all(|e| e["PRIORITY"].is_string() && e["TARGET"].is_string()), "{own:?}");
    let up = guest.shell("journalctl -u fernpass FERNPASS_BACKEND=wg-justiz/wg-1 -o cat")?;
    ensure!(up.contains("health changed"), "nothing of the backend's, but {up:?}");
    Ok(())
}

fn reload(guest: &mut Guest, checks: &mut Checks) {
    checks.told(
        "a changed configuration is taken by `systemctl reload`",
        under_traffic(
            guest,
            "sed -i 's/^max_sessions = 100$/max_sessions = 77/' /etc/fernpass/fernpass.toml
             systemctl reload fernpass
             fernpass -j tenant list | grep -q 77",
        ),
    );
    checks.told(
        "one with a mistake is refused by `systemctl reload`, and the old one holds",
        under_traffic(
            guest,
            "cp /etc/fernpass/fernpass.toml /root/good
             echo 'mistake = 1' >> /etc/fernpass/fernpass.toml
             if systemctl reload fernpass 2>/dev/null; then exit 1; fi
             [ $(systemctl is-active fernpass) = active ]
             journalctl -u fernpass -n 30 | grep -q mistake
             fernpass -j tenant list | grep -q 77
             cat /root/good > /etc/fernpass/fernpass.toml
             systemctl reload fernpass",
        ),
    );
    // systemd runs what it calls `ExecReload=` as the service's user.
    checks.note(
        "the journal knows who asked for it",
        audited(guest, "FERNPASS_PATH=/v1/reload", "fernpass"),
    );
}

/// The journal has a line of a change that a user asked for.
fn audited(guest: &mut Guest, field: &str, user: &str) -> anyhow::Result<()> {
    let uid = guest.shell(&format!("id -u {user}"))?;
    let lines =
        guest.shell(&format!("journalctl FERNPASS_AUDIT=true {field} -o json --no-pager"))?;
    let entries: Vec<Value> =
        lines.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(lines.clone())?;
    ensure!(!entries.is_empty(), "it has none with {field}");
    let is_named = |e: &Value| e["FERNPASS_UID"] == uid.trim() && e["FERNPASS_PID"].is_string();
    ensure!(entries.iter().all(is_named), "{lines}");
    Ok(())
}

fn interruptions(guest: &mut Guest, checks: &mut Checks) {
    checks.told("killed with -9 it is started again", under_traffic(guest, &again("kill -9 $old")));
    checks.told(
        "stopped (SIGSTOP) it is started again by the watchdog",
        under_traffic(guest, &again("kill -STOP $old")).and_then(|told| {
            guest.shell("journalctl -u fernpass | grep -q -i 'watchdog timeout'")?;
            Ok(told)
        }),
    );
    checks.told(
        "`systemctl restart` changes nothing for sessions",
        under_traffic(guest, &again("systemctl restart fernpass")),
    );
    checks.told(
        "`systemctl stop` leaves forwarding on",
        under_traffic(
            guest,
            "systemctl stop fernpass
             [ $(systemctl is-active fernpass) = inactive ]
             sleep 3
             systemctl start fernpass",
        ),
    );
    checks.told(
        "the package is installed again under traffic, and the daemon restarted",
        under_traffic(guest, &again(&format!("dpkg -i {PACKAGE} >/dev/null 2>&1"))),
    );
    checks.note(
        "the configuration is what it was",
        guest.shell("cmp /root/good /etc/fernpass/fernpass.toml").map(|_| ()),
    );
}

/// Does something to the daemon, and waits until it is another.
fn again(what: &str) -> String {
    format!("old=$(systemctl show --value -p MainPID fernpass)\n{what}\n{AWAIT}")
}

/// Runs a script while there is traffic in the tunnel: nothing may be lost, the session has to be the same. What was lost.
fn under_traffic(guest: &mut Guest, script: &str) -> anyhow::Result<String> {
    let before = session(guest)?;
    let counted = guest.shell(COUNTED)?;
    guest.shell(BEGIN)?;
    let done = guest.shell(&format!("({script}\n)\nsleep 2"));
    let account = guest.shell(END)?;
    done?;
    let (sums, which) = account.split_once('\n').with_context(|| account.clone())?;
    let (sent, lost) = sums.split_once(' ').with_context(|| account.clone())?;
    if lost != "0" {
        // Who it was: all that counts on the way.
        let since = since(&counted, &guest.shell(COUNTED)?);
        bail!("{lost} of {sent} packets lost:\n{which}what was counted meanwhile:\n{since}");
    }
    ensure!(sent.parse().is_ok_and(|sent: u64| sent > 100), "only {sent} packets were sent");
    is(&session(guest)?, &before).context("the session is another")?;
    Ok(format!("0 of {sent} packets lost"))
}

/// What has changed, of lines with a name and a number each.
fn since(before: &str, after: &str) -> String {
    let before: BTreeMap<_, _> = before.lines().filter_map(|line| line.rsplit_once(' ')).collect();
    let number = |text: &str| text.parse::<i64>().unwrap_or_default();
    let mut changed = String::new();
    for (name, count) in after.lines().filter_map(|line| line.rsplit_once(' ')) {
        let more = number(count) - before.get(name).copied().map_or(0, number);
        if more != 0 {
            changed += &format!("{name} {more}\n");
        }
    }
    changed
}

fn end(guest: &mut Guest, checks: &mut Checks) -> anyhow::Result<()> {
    checks.note(
        "pins that are root's are the daemon's with its next start",
        guest
            .shell(
                "systemctl stop fernpass
                 chown -R root:root /sys/fs/bpf/fernpass
                 systemctl start fernpass
                 stat -c %U /sys/fs/bpf/fernpass",
            )
            .and_then(|said| is(&said, "fernpass\n")),
    );
    checks.note(
        "a failed start is tried again for as long as it takes",
        guest
            .shell(
                "systemctl show --value -p StartLimitIntervalUSec fernpass fernpass-agent | xargs",
            )
            .and_then(|said| is(&said, "0 0\n")),
    );
    checks.note(
        "nothing of it failed, and nothing was denied that it needed",
        guest.shell("systemctl --failed --no-legend").and_then(|said| is(&said, "")),
    );
    checks.need("the package is removed", guest.shell("dpkg -r fernpass 2>&1"))?;
    checks.note(
        "the daemon is gone, and the program is off the interfaces",
        guest
            .shell(
                "systemctl is-active fernpass || true; ip -d link show wan0; ip -d link show lan0",
            )
            .and_then(|said| {
                ensure!(said.starts_with("inactive") && !said.contains("xdp"), "{said}");
                Ok(())
            }),
    );
    checks.note(
        "the journal knows that it was taken off",
        audited(guest, "FERNPASS_ASKED=unload", "root"),
    );
    checks.note(
        "no pins are left",
        guest.shell("find /sys/fs/bpf -mindepth 2").and_then(|said| is(&said, "")),
    );
    checks.note(
        "the service's port is closed: what the client sends now is the host's",
        guest.shell("ip netns exec c ping -q -c 3 -i 0.2 -W 1 10.99.0.1 || true").and_then(
            |said| {
                ensure!(said.contains("100% packet loss"), "{said}");
                Ok(())
            },
        ),
    );
    Ok(())
}
