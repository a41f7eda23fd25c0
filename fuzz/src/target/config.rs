//! The configuration file.

use control::config::Config;

use crate::Target;

pub(crate) const TARGET: Target = Target {
    words,
    longest: 4096,
    ..Target::new(
        "config",
        "the configuration: every finding has its place, and what is right reads back",
        run,
        seeds,
    )
};

const EXAMPLE: &str = include_str!("../../../docs/fernpass.toml");
const REFERENCE: &str = include_str!("../../../docs/configuration.md");

fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (config, report) = Config::examine(text, "fernpass.toml");
    assert_eq!(config.is_none(), report.has_errors(), "{report}");
    // An empty line at the end is one, too.
    let lines: Vec<&str> = text.split('\n').collect();
    for finding in &report.findings {
        let line = lines.get(finding.line.wrapping_sub(1)).expect("a line of the file");
        assert!((1..=line.chars().count() + 1).contains(&finding.column), "{finding:?}");
        assert!(!finding.message.is_empty(), "{finding:?}");
    }
    for colour in [false, true] {
        let shown = report.render(colour);
        assert_eq!(shown.is_empty(), report.findings.is_empty());
    }
    if let Some(config) = config {
        let written = config.to_toml();
        let again = Config::parse(&written, "written").unwrap_or_else(|e| panic!("{e}\n{written}"));
        assert_eq!(again, config);
    }
}

/// The example and its parts; the examples of the reference.
fn seeds() -> Vec<Vec<u8>> {
    let parts = EXAMPLE.split("\n\n").map(str::to_owned);
    let blocks = REFERENCE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let small = "[gateway]\ninterfaces=[\"a\"]\n[[tenant]]\nname=\"t\"\nmax_sessions=9\n[[pool]]\nname=\"p\"\n\
                 [[pool.backend]]\nname=\"b\"\naddress=\"10.0.0.1\"\n[[service]]\nname=\"s\"\ntenant=\"t\"\n\
                 profile=\"udp\"\nlisten=[\"192.0.2.1:5/udp\"]\npool=\"p\"\n";
    let all = parts.chain(blocks.map(str::to_owned)).chain([EXAMPLE.to_owned(), small.to_owned()]);
    all.map(String::into_bytes).collect()
}

/// Keys and values of the example and the reference.
fn words() -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
    let of_text = |text: &str| -> Vec<String> {
        text.split(|c| !is_word(c))
            .filter(|w| (3..30).contains(&w.len()))
            .map(str::to_owned)
            .collect()
    };
    let mut words = of_text(EXAMPLE);
    let quoted = REFERENCE.split('`').skip(1).step_by(2).filter(|word| !word.contains('\n'));
    words.extend(quoted.flat_map(of_text));
    words.sort();
    words.dedup();
    words
}
