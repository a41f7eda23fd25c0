//! What the daemon keeps in its state directory: operators' words, and a configuration on trial.

use std::collections::BTreeSet;

use control::clock::Moment;
use control::config::{BackendId, Config};
use control::fuzz::goes_by_file;
use control::model::{Drain, HealthView, Inputs, Load, Overrides, RouteView, Wanted, compute};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    words,
    longest: 4096,
    ..Target::new(
        "state",
        "the state directory's files, and the tables that follow from them",
        run,
        seeds,
    )
};

/// Some more keys than there are backends: what is kept may name what is not there any more.
const CONFIG: &str = include_str!("../../../docs/fernpass.toml");
const NOW: u64 = 1_800_000_000;

fn run(data: &[u8]) {
    // Whatever was kept, a file that was changed since is meant as it is.
    let _ = goes_by_file(data, CONFIG, NOW);
    let Ok(overrides) = serde_json::from_slice::<Overrides>(data) else { return };
    let kept = serde_json::to_vec_pretty(&overrides).expect("it has only what JSON has");
    assert_eq!(serde_json::from_slice::<Overrides>(&kept).ok().as_ref(), Some(&overrides));
    thread_local! {
        static EXAMPLE: Config = Config::parse(CONFIG, "example").expect("the example is right");
    }
    EXAMPLE.with(|config| {
        let inputs = Inputs {
            config,
            overrides: &overrides,
            health: &HealthView::new(),
            load: &Load::default(),
            routes: &RouteView::default(),
            current: &Wanted::default(),
            released: &BTreeSet::new(),
        };
        let wanted = compute(&inputs).expect("the example has room in the tables");
        assert_eq!(wanted.rings.len(), wanted.rings.keys().collect::<BTreeSet<_>>().len());
    });
}

fn seeds() -> Vec<Vec<u8>> {
    let config = Config::parse(CONFIG, "example").expect("the example is right");
    let mut overrides = Overrides::default();
    let mut seeds = vec![b"{}".to_vec()];
    for (id, ..) in config.backends() {
        overrides.weights.insert(id.clone(), 5);
        let drain = Drain { deadline: Some(Moment::by_wall(NOW)), spread: 30, released: false };
        overrides.drained.insert(id, drain);
        seeds.push(serde_json::to_vec(&overrides).expect("it has only what JSON has"));
    }
    overrides.weights.insert(BackendId::new("gone", "gone-1"), 0);
    seeds.push(serde_json::to_vec(&overrides).expect("it has only what JSON has"));
    let small = "[gateway]\ninterfaces=[\"a\"]\n";
    for until in [None, Some(NOW + 1)] {
        let trial = serde_json::json!({ "before": small, "tried": CONFIG, "until": until });
        seeds.push(trial.to_string().into_bytes());
    }
    seeds
}

fn words() -> Vec<String> {
    let keys = [
        "drained",
        "weights",
        "deadline",
        "spread",
        "released",
        "before",
        "tried",
        "until",
        "boot",
        "monotonic_ms",
        "wall",
        "after",
    ];
    let config = Config::parse(CONFIG, "example").expect("the example is right");
    let backends = config.backends().map(|(id, ..)| id.to_string());
    keys.into_iter().map(str::to_owned).chain(backends).map(|word| format!("\"{word}\"")).collect()
}
