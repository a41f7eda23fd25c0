//! What must be true of the package.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, anyhow, ensure};

use super::checks::{Checks, is};
use super::root::Root;
use crate::process::{run, target};

/// What is installed: mode, owner and group, path.
const FILES: &[&str] = &[
    "755 root:root /usr/bin/fernpass",
    "644 root:root /usr/lib/systemd/system/fernpass.service",
    "644 root:root /usr/lib/systemd/system/fernpass-agent.service",
    "644 root:root /usr/lib/sysusers.d/fernpass.conf",
    "644 root:root /usr/lib/tmpfiles.d/fernpass.conf",
    "640 root:fernpass /etc/fernpass/fernpass.toml",
    "644 root:root /etc/default/fernpass-agent",
    "644 root:root /usr/share/doc/fernpass/README.md",
    "644 root:root /usr/share/doc/fernpass/changelog.Debian.gz",
    "644 root:root /usr/share/doc/fernpass/configuration.md",
    "644 root:root /usr/share/doc/fernpass/copyright",
    "644 root:root /usr/share/doc/fernpass/fernpass.toml",
    "644 root:root /usr/share/doc/fernpass/operations.md",
    "644 root:root /usr/share/doc/fernpass/performance.md",
    // What the tables are pinned in.
    "700 fernpass:fernpass /sys/fs/bpf/fernpass",
];

/// In place of systemd, which does not run there: it notes what it is asked to do. To it all units are active.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> /var/log/systemctl
case " $* " in
    *" disable "*) exec systemctl.real --root=/ "$@" ;;
    *" is-enabled "*) exit 1 ;;
esac
"#;
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/fernpass.service";
const APT: &str =
    "apt-get -q -y --allow-downgrades -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold";
/// What an administrator and a later package have changed in the configuration.
const LOCAL: &str = "# Changed here.";
const SHIPPED: &str = "# Changed by the package.";

/// All checks.
pub(super) fn all(package: &Path) -> anyhow::Result<()> {
    let mut checks = Checks::default();
    checks.note("lintian finds nothing wrong", lintian(package));
    let directory = target().join("deb-test");
    eprintln!("making a clean Debian");
    let root = Root::new(&directory)?;
    fs::copy(package, root.file("/first.deb"))?;
    later(package, &directory.join("unpacked"), &root.file("/later.deb"))?;
    // apt's PATH has no /usr/local.
    let systemctl = root.file("/usr/bin/systemctl");
    fs::rename(&systemctl, root.file("/usr/bin/systemctl.real"))?;
    fs::write(&systemctl, SYSTEMCTL)?;
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755))?;
    fs::create_dir_all(root.file("/run/systemd/system"))?;

    installation(&root, &mut checks)?;
    upgrade(&root, &mut checks)?;
    removal(&root, &mut checks)?;
    purge(&root, &mut checks)?;
    again(&root, &mut checks)?;
    checks.end()
}

/// It knows Debian's rules; `packaging/debian/lintian-overrides` says why some do not hold.
fn lintian(package: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("lintian");
    run(command.args(["--allow-root", "--fail-on", "error,warning"]).arg(package))
}

/// The same package as a later version, with another configuration in it.
fn later(package: &Path, unpacked: &Path, to: &Path) -> anyhow::Result<()> {
    run(Command::new("dpkg-deb").arg("-R").arg(package).arg(unpacked))?;
    change(&unpacked.join("DEBIAN/control"), |text| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for line in lines.iter_mut().filter(|line| line.starts_with("Version: ")) {
            line.push_str("+later");
        }
        lines.join("\n") + "\n"
    })?;
    change(&unpacked.join("etc/fernpass/fernpass.toml"), |text| format!("{text}{SHIPPED}\n"))?;
    run(Command::new("dpkg-deb")
        .args(["-Zgzip", "-z1", "-b"])
        .arg(unpacked)
        .arg(to)
        .stdout(std::io::stderr()))
}

fn change(path: &Path, how: impl Fn(&str) -> String) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    fs::write(path, how(&text)).with_context(|| path.display().to_string())
}

fn installation(root: &Root, checks: &mut Checks) -> anyhow::Result<()> {
    checks.need("it is installed", root.shell(&format!("{APT} install /first.deb")))?;
    checks.note("files, their modes and owners", files(root));
    checks.note("the daemon's user is there", user(root));
    checks.note("nothing is enabled or started", idle(root));
    checks.note("the program says its version", version(root));
    checks.note(
        "the daemon's user can use the configuration",
        root.shell(
            "setpriv --reuid fernpass --regid fernpass --init-groups \
             fernpass check -c /etc/fernpass/fernpass.toml",
        )
        .and_then(|said| is(&said, "/etc/fernpass/fernpass.toml: no mistakes\n")),
    );
    checks.note(
        "every command has its manual page",
        root.shell(
            "fernpass man /tmp/man; cd /usr/share/man/man1
             for page in /tmp/man/*; do zcat ${page##*/}.gz | cmp - $page; done",
        )
        .map(|_| ()),
    );
    checks.note("shells complete it", completions(root));
    checks.note(
        "systemd takes the units",
        root.shell(
            "cd /usr/lib/systemd/system
             systemd-analyze verify --man=no fernpass.service fernpass-agent.service 2>&1",
        )
        .and_then(|said| is(&said, "")),
    );
    checks.note(
        "dpkg finds it unchanged",
        root.shell("dpkg --verify fernpass").and_then(|said| is(&said, "")),
    );
    Ok(())
}

fn upgrade(root: &Root, checks: &mut Checks) -> anyhow::Result<()> {
    change(&root.file("/etc/fernpass/fernpass.toml"), |text| format!("{text}{LOCAL}\n"))?;
    root.shell("chmod 600 /etc/fernpass/fernpass.toml; : > /var/log/systemctl")?;
    let attached = root.shell("fernpass load; fernpass attach wan0; ip -d link show wan0");
    let attached = attached.and_then(|shown| program(&shown));
    checks.note(
        "the kernel program is on an interface",
        attached.as_ref().map(|_| ()).map_err(|e| anyhow!("{e:#}")),
    );
    checks.need("it is upgraded", root.shell(&format!("{APT} install /later.deb")))?;
    checks.note("the changed configuration is kept", kept(root));
    checks.note(
        "what runs is restarted, and not stopped before",
        root.shell("grep -v daemon-reload /var/log/systemctl").and_then(|asked| {
            is(&asked, "try-restart fernpass.service\ntry-restart fernpass-agent.service\n")
        }),
    );
    let now = root.shell("ip -d link show wan0").and_then(|shown| program(&shown));
    checks.note("the kernel program stays where it is", now.and_then(|now| is(&now, &attached?)));
    Ok(())
}

fn removal(root: &Root, checks: &mut Checks) -> anyhow::Result<()> {
    root.shell(
        "systemctl.real --root=/ --quiet enable fernpass.service
         mkdir /var/lib/fernpass; touch /var/lib/fernpass/drains
         : > /var/log/systemctl",
    )?;
    // A daemon that systemd does not know holds this lock.
    let refused = root.shell(&format!("flock /sys/fs/bpf/fernpass {APT} remove fernpass"));
    checks.note(
        "it is not removed under a daemon that runs",
        match refused {
            Ok(_) => Err(anyhow!("it is")),
            Err(_) => root
                .shell("dpkg-query -W -f '${db:Status-Status}' fernpass; ip -d link show wan0")
                .and_then(|shown| {
                    ensure!(shown.starts_with("installed") && shown.contains("xdp"), "{shown}");
                    Ok(())
                }),
        },
    );
    checks.need("it is removed", root.shell(&format!("{APT} remove fernpass")))?;
    checks.note(
        "the services are stopped",
        root.shell("grep '^stop' /var/log/systemctl | uniq")
            .and_then(|asked| is(&asked, "stop fernpass.service fernpass-agent.service\n")),
    );
    checks.note("no kernel program is left", unloaded(root));
    checks.note("programs and units are gone", gone(root, "/usr"));
    checks.note("the configuration is kept", kept(root));
    Ok(())
}

fn purge(root: &Root, checks: &mut Checks) -> anyhow::Result<()> {
    checks.need("it is purged", root.shell(&format!("{APT} purge fernpass")))?;
    checks.note("nothing of it is left", nothing(root));
    checks.note("but its user", user(root));
    Ok(())
}

/// Where there is no gateway, and where the configuration does not say where it is.
fn again(root: &Root, checks: &mut Checks) -> anyhow::Result<()> {
    checks.need("it is installed again", root.shell(&format!("{APT} install /first.deb")))?;
    checks.need(
        "it is removed where nothing is loaded",
        root.shell(&format!("{APT} remove fernpass")),
    )?;
    checks.need("it is put back", root.shell(&format!("{APT} install /first.deb")))?;
    checks.note("files, their modes and owners then", files(root));
    root.shell("fernpass load; fernpass attach wan0; echo '[' > /etc/fernpass/fernpass.toml")?;
    checks.need(
        "it is purged with a configuration that cannot be used",
        root.shell(&format!("{APT} purge fernpass")),
    )?;
    checks.note("no kernel program is left then either", unloaded(root));
    checks.note("nothing else is left then either", nothing(root));
    Ok(())
}

fn nothing(root: &Root) -> anyhow::Result<()> {
    gone(root, "/")?;
    // The kernel has things of its own there.
    is(&root.shell("find /sys/fs/bpf -name 'fernpass*'")?, "")
}

fn files(root: &Root) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for expected in FILES {
        let path = expected.split(' ').next_back().unwrap_or_default();
        let found = root.shell(&format!("stat -c '%a %U:%G %n' {path}"))?;
        if found.trim() != *expected {
            wrong.push(format!("{} instead of {expected}", found.trim()));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join(", "));
    Ok(())
}

fn user(root: &Root) -> anyhow::Result<()> {
    let entry = root.shell("getent passwd fernpass")?;
    ensure!(entry.contains(":/var/lib/fernpass:") && entry.contains("nologin"), "{entry}");
    Ok(())
}

/// A first installation tells systemd nothing but to read its units.
fn idle(root: &Root) -> anyhow::Result<()> {
    ensure!(!root.file(ENABLED).is_symlink(), "the daemon is enabled");
    is(&root.shell("cat /var/log/systemctl")?, "--system daemon-reload\n")
}

fn version(root: &Root) -> anyhow::Result<()> {
    let version = root.shell("dpkg-query -W -f '${Version}' fernpass")?;
    let upstream = version.rsplit_once('-').map_or(version.as_str(), |(upstream, _)| upstream);
    is(&root.shell("fernpass --version")?, &format!("fernpass {upstream}\n"))?;
    // Which nobody generates.
    let changelog = root.shell("zcat /usr/share/doc/fernpass/changelog.Debian.gz")?;
    ensure!(
        changelog.starts_with(&format!("fernpass ({version})")),
        "packaging/debian/changelog does not begin with {version}"
    );
    Ok(())
}

fn completions(root: &Root) -> anyhow::Result<()> {
    root.shell(
        "bash -c '. /usr/share/bash-completion/completions/fernpass; complete -p fernpass'",
    )?;
    root.shell("grep -q '^#compdef fernpass' /usr/share/zsh/vendor-completions/_fernpass")?;
    root.shell(
        "grep -q 'complete -c fernpass' /usr/share/fish/vendor_completions.d/fernpass.fish",
    )?;
    Ok(())
}

/// The kernel's number of the program on an interface.
fn program(shown: &str) -> anyhow::Result<String> {
    let id = shown.split("prog/xdp id ").nth(1).and_then(|rest| rest.split(' ').next());
    Ok(id.with_context(|| format!("no program on {shown}"))?.to_owned())
}

/// The administrator's configuration, with its mode, is the one that counts.
fn kept(root: &Root) -> anyhow::Result<()> {
    let text = root.shell("cat /etc/fernpass/fernpass.toml")?;
    ensure!(text.contains(LOCAL) && !text.contains(SHIPPED), "it is another");
    is(&root.shell("stat -c '%a %U:%G' /etc/fernpass/fernpass.toml")?, "600 root:fernpass\n")
}

/// Neither on the interface nor in tables.
fn unloaded(root: &Root) -> anyhow::Result<()> {
    let shown = root.shell("ip -d link show wan0")?;
    ensure!(!shown.contains("xdp"), "{shown}");
    is(&root.shell("find /sys/fs/bpf -mindepth 2")?, "")
}

/// Nothing of the package is below a directory but what is mounted there, and what apt remembers.
fn gone(root: &Root, below: &str) -> anyhow::Result<()> {
    let found = root.shell(&format!(
        "find {below} -xdev -name '*fernpass*' -not -path '/var/cache/*' -not -path '/tmp/*'"
    ))?;
    is(&found, "")
}
