//! Mistakes in what is asked of backends, and in the files that belong to it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::config::{Config, Health, Severity};

const KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";

/// A configuration whose line 10 is this.
fn with(health: &str) -> String {
    with_service(health, "wireguard", "\"203.0.113.10:51820/udp\"")
}

fn with_service(health: &str, profile: &str, listen: &str) -> String {
    format!(
        r#"[gateway]
interfaces = ["wan0"]
[[tenant]]
name = "justiz"
max_sessions = 100


[[pool]]
name = "wg"
health = {{ {health} }}
[[pool.backend]]
name = "wg-1"
address = "10.20.0.11"
[[service]]
name = "vpn"
tenant = "justiz"
profile = "{profile}"
listen = [{listen}]
pool = "wg"
"#
    )
}

/// What is said, all of it at line 10: how bad it is, what, and the mend.
fn said(text: &str, files: bool) -> Vec<(Severity, String, String)> {
    let (config, report) = match files {
        true => Config::examine_with_files(text, "test.toml"),
        false => Config::examine(text, "test.toml"),
    };
    assert_eq!(config.is_none(), report.has_errors());
    let said = report.findings.into_iter();
    said.map(|finding| {
        assert_eq!(finding.line, 10, "{finding:?}");
        (finding.severity, finding.message, finding.help.unwrap_or_default())
    })
    .collect()
}

#[test]
fn every_mistake_of_a_probe_is_told_with_its_mend() {
    let wireguard =
        format!("probe = \"wireguard\", public_key = \"{KEY}\", private_key_file = \"/k\"");
    for (health, message, help) in [
        ("probe = \"ping\"", "there is no probe `ping`", "write `icmp`, `tcp`, `udp`, `wireguard`"),
        ("probe = \"wiregard\"", "there is no probe `wiregard`", "did you mean `wireguard`?"),
        (
            "probe = 1",
            "`probe` must be a probe in quotes, such as \"icmp\", not an integer",
            "write",
        ),
        ("interval = \"1s\"", "`probe` is missing in `health`", "add `probe = …`"),
        ("probe = \"icmp\", port = 1", "`port` does nothing with probe = \"icmp\"", "leave it out"),
        (
            "probe = \"none\", max_down = \"50%\"",
            "`max_down` does nothing with probe = \"none\"",
            "leave it out",
        ),
        ("probe = \"icmp\", max_down = \"50\"", "`50` is not a share", "add the sign: \"50%\""),
        ("probe = \"icmp\", max_down = \"101%\"", "`101%` is not a share", "from 0 to 100"),
        (
            "probe = \"icmp\", max_down = 50",
            "`max_down` must be a share in per cent in quotes, such as \"75%\", not an integer",
            "write a share in per cent",
        ),
        ("probe = \"icmp\", max_dwn = \"50%\"", "unknown key `max_dwn` in `health`", "`max_down`?"),
        (
            "probe = \"icmp\", timeout = \"2s\"",
            "the probe's timeout is longer than its interval",
            "lower `timeout` or raise `interval`",
        ),
        ("probe = \"udp\"", "`send` is missing in `health`", "write what the backends answer to"),
        (
            "probe = \"udp\", send = \"0x0\"",
            "`0x0` cannot be the bytes of a datagram: after `0x` there are other characters than pairs of hexadecimal digits",
            "two hexadecimal digits for each byte",
        ),
        (
            "probe = \"udp\", send = \"a\", expect = \"\"",
            "`` cannot be the bytes of a datagram: it has 0 bytes, not 1 to 1232",
            "write what is sent in one packet",
        ),
        (
            "probe = \"icmp\", send = \"a\"",
            "`send` does nothing with probe = \"icmp\"",
            "leave it out",
        ),
        (
            "probe = \"wireguard\", private_key_file = \"/k\"",
            "`public_key` is missing in `health`",
            "write the servers' public key, as `wg show` prints it",
        ),
        (
            &format!("probe = \"wireguard\", public_key = \"{KEY}\""),
            "`private_key_file` is missing in `health`",
            "make the probe a peer of its own",
        ),
        (
            "probe = \"wireguard\", public_key = \"abc=\", private_key_file = \"/k\"",
            "`abc=` is not a key of WireGuard",
            "write the 44 characters that `wg show` prints",
        ),
        (
            &format!("{wireguard}, preshared_key_file = \"psk\""),
            "`psk` is not an absolute path",
            "begin it with `/`",
        ),
        (
            &format!("{wireguard}, interval = \"20ms\", timeout = \"20ms\""),
            "`interval` must not be 20ms",
            "it goes from 100ms to 1h",
        ),
        (
            "probe = \"openvpn\", tls_crypt_file = 1",
            "`tls_crypt_file` must be an absolute path in quotes, not an integer",
            "write an absolute path",
        ),
        (
            "probe = \"tls\", port = 443, server_name = \"a b\"",
            "`a b` is no server's name",
            "write a name as it stands in certificates",
        ),
        (
            "probe = \"http\", port = 80, path = \"health\"",
            "\"health\" is no path",
            "begin it with `/`",
        ),
        (
            "probe = \"http\", port = 80, host = \"\"",
            "\"\" is no host",
            "write what clients have in their `Host` header",
        ),
        (
            "probe = \"http\", port = 80, status = \"2xx\"",
            "`2xx` is not a range of statuses",
            "from 100 to 599: \"200-299\"",
        ),
        (
            "probe = \"http\", port = 80, status = 99",
            "`99` is not a range of statuses",
            "100 to 599",
        ),
        (
            "probe = \"http\", port = 80, ca_file = \"/ca.pem\"",
            "`ca_file` does nothing with probe = \"http\"",
            "leave it out",
        ),
        (
            "probe = \"tls\"",
            "pool `wg` has no service of TCP whose port the tls probe could take",
            "write which one is asked: `port = NUMBER`",
        ),
        ("probe = \"tcp\", port = 0", "`port` must not be 0", "it goes from 1 to 65535"),
    ] {
        let [(severity, found, mend)] = &said(&with(health), false)[..] else {
            panic!("{health}: {:?}", said(&with(health), false))
        };
        assert_eq!((*severity, found.as_str()), (Severity::Error, message), "{health}");
        assert!(mend.contains(help), "{health}: {mend}");
    }
}

#[test]
fn a_probe_takes_the_services_port_if_it_has_one_alone() {
    let port = |text: &str| {
        let config = Config::parse(text, "test.toml").unwrap();
        config.probe_port(&config.pools[0], &config.pools[0].backends[0])
    };
    let udp = "probe = \"udp\", send = \"a\"";
    assert_eq!(port(&with(udp)), Some(51820));
    assert_eq!(port(&with(&format!("{udp}, port = 7"))), Some(7));
    let own = with(udp).replace("address = \"10.20.0.11\"", "address = \"10.20.0.11\"\nport = 9");
    assert_eq!(port(&own), Some(9));
    assert_eq!(port(&with("probe = \"icmp\"")), None);
    let ike = "\"203.0.113.10:4500/udp\", \"203.0.113.10:500/udp\"";
    assert_eq!(port(&with_service("probe = \"ike\"", "ipsec", ike)), Some(500));
    let both = "\"203.0.113.10:443/tcp\", \"203.0.113.10:444/udp\"";
    assert_eq!(port(&with_service("probe = \"tls\"", "dtls", both)), Some(443));
    assert_eq!(port(&with_service(udp, "dtls", both)), Some(444));
    let several = "\"203.0.113.10:1194/udp\", \"203.0.113.10:1195/udp\"";
    let [(_, message, _)] =
        &said(&with_service("probe = \"openvpn\"", "openvpn", several), false)[..]
    else {
        panic!("one")
    };
    assert_eq!(message, "the services of pool `wg` have several ports for the openvpn probe");
}

/// A folder of the test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fernpass-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_read_where_the_configuration_is_to_be_used() {
    let folder = Folder::new("probe-files");
    let wireguard = |key: &str, more: &str| {
        with(&format!(
            "probe = \"wireguard\", public_key = \"{KEY}\", private_key_file = \"{key}\"{more}"
        ))
    };
    let good = folder.write("good", &format!("{}\n", KEY.replace("yA", "wA")), 0o640);
    let text = wireguard(&good, &format!(", preshared_key_file = \"{good}\""));
    assert_eq!(said(&text, true), []);
    let config = Config::parse_with_files(&text, "test.toml").unwrap();
    let again = Config::parse_with_files(&config.to_toml(), "again").unwrap();
    assert_eq!(again, config);
    let Health::Probed(probing) = &config.pools[0].health else { panic!("probed") };
    // What is secret is not shown.
    let shown = format!("{probing:?} {}", config.to_toml());
    assert!(!shown.contains(&KEY[4..]) || !shown.contains("wAnz"), "{shown}");

    let one = |text: &str| {
        let said = said(text, true);
        assert_eq!(said.len(), 1, "{said:?}");
        said.into_iter().next().unwrap()
    };
    let missing = wireguard("/nowhere/probe.key", "");
    assert_eq!(said(&missing, false), [], "only looked at");
    let (severity, message, help) = one(&missing);
    assert_eq!(severity, Severity::Error);
    assert!(message.starts_with("`/nowhere/probe.key` cannot be read: No such file"), "{message}");
    assert!(help.contains("`wg genkey`"), "{help}");
    let (_, message, _) = one(&wireguard("/etc", ""));
    assert!(message.contains("cannot be read: it is no file"), "{message}");
    let bad = folder.write("bad", "not a key", 0o600);
    let (_, message, _) = one(&wireguard(&bad, ""));
    assert_eq!(message, format!("there is not a key of WireGuard in `{bad}`"));
    let open = folder.write("open", KEY.replace("yA", "xA").as_str(), 0o644);
    let (severity, message, help) = one(&wireguard(&open, ""));
    assert_eq!(severity, Severity::Warning);
    assert!(message.starts_with("everybody on this machine can get at"), "{message}");
    assert!(help.contains("chmod 640"), "{help}");

    // The key that belongs to the public one: a mistake that is easily made.
    let own = boringtun::x25519::StaticSecret::from([7; 32]);
    let public = crate::config::PublicKey(boringtun::x25519::PublicKey::from(&own).to_bytes());
    let private = crate::config::PublicKey(own.to_bytes()).to_string();
    let mine = folder.write("mine", &private, 0o600);
    let (_, message, _) = one(&wireguard(&mine, "").replace(KEY, &public.to_string()));
    assert_eq!(message, "`public_key` is the probe's own key");

    let openvpn = with(&format!("probe = \"openvpn\", tls_crypt_file = \"{bad}\""));
    let (_, message, help) = one(&openvpn);
    assert_eq!(message, format!("there is not a static key of OpenVPN in `{bad}`"));
    assert!(help.contains("openvpn --genkey tls-crypt"), "{help}");
    let tls = with(&format!("probe = \"tls\", port = 443, ca_file = \"{bad}\""));
    let (_, message, _) = one(&tls);
    assert_eq!(message, format!("there is not a certificate in PEM in `{bad}`"));
}

#[test]
fn who_would_wait_longer_than_it_seems_is_told() {
    for (numbers, warning) in [
        ("", None),
        ("interval = \"1s\", timeout = \"500ms\", rise = 2, fall = 3", None),
        ("interval = \"500ms\", timeout = \"300ms\"", None),
        ("timeout = \"137ms\", fall = 2", None),
        ("fall = 2", Some(("2s 562ms", "2s", "lower `timeout` to 137ms, or raise `fall` to 3"))),
        ("fall = 1", Some(("1s 531ms", "1s", "lower `timeout` to 68ms, or raise `fall` to 3"))),
        ("timeout = \"1s\"", Some(("4s 31ms", "3s", "lower `timeout` to 756ms"))),
        ("interval = \"10ms\"", Some(("40ms", "30ms", "raise `interval`"))),
        ("interval = \"10ms\", fall = 1", Some(("20ms", "10ms", "raise `fall` to 3: "))),
    ] {
        let text = with(format!("probe = \"icmp\", {numbers}").trim_end_matches(", "));
        let said = said(&text, false);
        let Some((most, hoped, mend)) = warning else {
            assert_eq!(said, [], "{numbers}");
            continue;
        };
        let [(Severity::Warning, message, help)] = &said[..] else { panic!("{numbers}: {said:?}") };
        assert_eq!(
            *message,
            format!(
                "a dead backend may be found down after {most} only: `interval` × `fall` is {hoped}"
            )
        );
        assert!(help.starts_with(mend), "{help}");
    }
}
