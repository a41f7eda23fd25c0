//! Files of keys and certificates, which the configuration names.

use control::fuzz::{authorities, control_key, wireguard_key};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    words,
    longest: 2048,
    ..Target::new(
        "keys",
        "files of keys and certificates: what is read is what stands there",
        run,
        seeds,
    )
};

const BEGIN: &str = "-----BEGIN OpenVPN Static key V1-----";
const END: &str = "-----END OpenVPN Static key V1-----";
/// Of an authority, as OpenSSL makes it.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIUDobySr2VOgyq8UGzoMfvMqwFBG8wCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFcHJvYmUwIBcNMjYxMTI5MTk0NjM4WhgPMjEyNjExMDUxOTQ2
MzhaMBAxDjAMBgNVBAMMBXByb2JlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
zUihg/8+1ENYQpZuSE2KEOE4oGvrHzOm2lXqAcxTcy65BG7T5Sn7Y5ocAbllbg0Z
z/wVmkB/M2PWZkpff92hNqNTMFEwHQYDVR0OBBYEFImf4mYSrmlLENmbrlnRjcrx
Yn5gMB8GA1UdIwQYMBaAFImf4mYSrmlLENmbrlnRjcrxYn5gMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgOxeV+n12BXVQo7VwFAyQXSgYMVSkWOGJ
QPsXmviEAeUCIQC4BXpYQa+VnPg8ZVRtt2xAXo1CWfg395tEyRtLoW721w==
-----END CERTIFICATE-----
";

fn run(data: &[u8]) {
    if let Some(key) = wireguard_key(data) {
        assert_eq!(base64(&key.0).as_bytes(), data.trim_ascii());
    }
    if let Some(key) = control_key(data) {
        let text = std::str::from_utf8(data).expect("it was read").to_ascii_lowercase();
        let digits: String = text.split_whitespace().collect();
        let hexadecimal: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(digits.contains(&hexadecimal), "other digits");
        for cut in [BEGIN, END] {
            let without = text.replacen(&cut.to_ascii_lowercase(), "", usize::MAX);
            assert!(control_key(without.as_bytes()).is_none(), "without {cut}");
        }
    }
    if let Some(all) = authorities(data) {
        // Spaces may be among the hyphens that follow.
        let begun = data.windows(22).filter(|it| *it == b"-----BEGIN CERTIFICATE").count();
        assert!((1..=begun).contains(&all.0.len()), "{} of {begun}", all.0.len());
    }
}

/// As `wg` writes it.
fn base64(key: &[u8; 32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in key.chunks(3) {
        let bits = (0..3).fold(0, |bits, n| bits << 8 | u32::from(*three.get(n).unwrap_or(&0)));
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize] as char;
            text.push(if n <= three.len() { digit } else { '=' });
        }
    }
    text
}

fn seeds() -> Vec<Vec<u8>> {
    let lines = "0123456789abcdefFEDCBA9876543210\n".repeat(16);
    let control = format!("#\n# 2048 bit OpenVPN static key\n#\n{BEGIN}\n{lines}{END}\n");
    let key = format!("{}\n", base64(&[0xc8; 32]));
    [control, key, CERTIFICATE.to_owned(), CERTIFICATE.repeat(2)].map(String::into_bytes).into()
}

fn words() -> Vec<String> {
    let certificate = CERTIFICATE.lines().collect::<Vec<_>>();
    [BEGIN, END, certificate[0], certificate[certificate.len() - 1]].map(str::to_owned).into()
}
