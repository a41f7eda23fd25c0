//! `cargo xtask fuzz`: libFuzzer on the targets of `fuzz/`, or mutated frames into the live program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::process::{self, cargo_command, output, run, target, workspace};
use crate::setup::{self, Need};
use crate::suitable;

/// What the compiler is to add so that libFuzzer sees which code an input reaches, and what values are compared there. All of it
/// is LLVM's, so that stable Rust will do; cargo-fuzz's flags are the same, but it wants a program for each target.
const COVERAGE: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
];
/// Longest time for an input, in seconds: all take less than a hundredth of one.
const TIMEOUT: u32 = 10;

/// Begins the names of inputs that found something: they stay in the corpus.
const FOUND: &str = "found-";

/// What to fuzz, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Targets; all of them if none is named
    targets: Vec<String>,
    /// For how long, each target
    #[arg(long, value_name = "NUMBER", default_value_t = 60)]
    seconds: u32,
    /// How many targets at once; as many as there are processors if it is not said
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=256))]
    at_once: Option<u16>,
    /// Print the targets
    #[arg(long, conflicts_with_all = ["targets", "live"])]
    list: bool,
    /// Instead of fuzzing, leave in fuzz/corpus what is needed of what was found until now
    #[arg(long, conflicts_with = "live")]
    minimise: bool,
    /// Send mutated frames into the live program instead, from both sides, under traffic (root)
    #[arg(long, conflicts_with = "targets")]
    live: bool,
    /// With --live: how many frames
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000_000, requires = "live")]
    frames: u64,
    /// With --live: where the mutations begin; the same number makes the same frames
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "live")]
    seed: u64,
    /// With --live: print the results as JSON, alone on standard output
    #[arg(long, requires = "live")]
    json: bool,
}

/// A target, as `fernpass-fuzz list` tells of it.
struct Target {
    name: String,
    longest: String,
    about: String,
}

/// Does it.
pub(crate) fn fuzz(options: &Options) -> anyhow::Result<()> {
    if options.live {
        return live(options);
    }
    setup::setup(Need::FUZZ)?;
    let all = targets()?;
    if options.list {
        all.iter().for_each(|target| println!("{:<10} {}", target.name, target.about));
        return Ok(());
    }
    let named = |name: &String| {
        let found = all.iter().find(|target| target.name == *name);
        found.with_context(|| format!("there is no target `{name}`: `cargo xtask fuzz --list`"))
    };
    let chosen: Vec<&Target> = match options.targets.as_slice() {
        [] => all.iter().collect(),
        names => names.iter().map(named).collect::<anyhow::Result<_>>()?,
    };
    let fuzzer = build()?;
    let at_once = options.at_once.map_or_else(
        || thread::available_parallelism().map_or(1, |processors| processors.get()),
        usize::from,
    );
    let findings = Mutex::new(Vec::new());
    side_by_side(&chosen, at_once, |target| {
        if options.minimise {
            minimise(&fuzzer, target)?;
        } else if !one(&fuzzer, target, options.seconds)? {
            findings.lock().unwrap_or_else(|e| e.into_inner()).push(target.name.as_str());
        }
        Ok(())
    })?;
    let findings = findings.into_inner().unwrap_or_else(|e| e.into_inner());
    if findings.is_empty() {
        Ok(())
    } else {
        bail!("something was found in {}", findings.join(", "))
    }
}

/// Does something with each, with so many at once; stops with the first that fails.
fn side_by_side<T: Sync>(
    all: &[T],
    at_once: usize,
    each: impl Fn(&T) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let left = Mutex::new(all.iter());
    let next = || left.lock().unwrap_or_else(|e| e.into_inner()).next();
    let work = || {
        while let Some(one) = next() {
            if let Err(e) = each(one) {
                // Nobody begins another.
                while next().is_some() {}
                return Err(e);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once.min(all.len())).map(|_| scope.spawn(work)).collect();
        // All have ended before the first failure is told.
        let done: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        done.into_iter()
            .try_for_each(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn live(options: &Options) -> anyhow::Result<()> {
    suitable::check("test")?;
    setup::setup(Need::LAB)?;
    let (frames, seed) = (options.frames.to_string(), options.seed.to_string());
    let mut arguments = vec!["fuzz", "--frames", &frames, "--seed", &seed];
    arguments.extend(options.json.then_some("--json"));
    process::lab(&arguments)
}

/// `fernpass-fuzz`, which knows the targets; it is built as everything else is.
fn helper() -> Command {
    let mut command = cargo_command();
    command.args(["run", "--quiet", "--locked", "--bin", "fernpass-fuzz", "--"]);
    command
}

fn targets() -> anyhow::Result<Vec<Target>> {
    let listed =
        helper().arg("list").stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !listed.status.success() {
        bail!("the targets cannot be listed");
    }
    let text = String::from_utf8_lossy(&listed.stdout);
    let of_line = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        Some(Target { name: fields.next()?, longest: fields.next()?, about: fields.next()? })
    };
    Ok(text.lines().filter_map(of_line).collect())
}

/// Builds the fuzzer. For a named target: so the flags are not for build scripts, which have no fuzzer in them.
fn build() -> anyhow::Result<PathBuf> {
    let said = output("rustc", &["-vV"]).unwrap_or_default();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` does not tell for which machine it builds")?;
    let mut command = cargo_command();
    command
        .args(["build", "--locked", "-p", "fernpass-fuzz", "--bin", "fernpass-fuzzer"])
        .args(["--features", "libfuzzer", "--profile", "fuzz", "--target", host])
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    // A fuzzer loads no kernel programs: without them it is not built anew whenever they are.
    for variable in ["FERNPASS_XDP_OBJECT", "FERNPASS_AGENT_OBJECT"] {
        command.env(variable, "/dev/null");
    }
    run(&mut command)?;
    Ok(target().join(host).join("fuzz/fernpass-fuzzer"))
}

/// A target's directories and files.
struct Place {
    /// All that was found until now to reach something new.
    grown: PathBuf,
    committed: PathBuf,
    words: PathBuf,
    log: PathBuf,
    /// Begins the names of findings.
    findings: PathBuf,
}

impl Place {
    fn of(target: &Target) -> anyhow::Result<Self> {
        let root = process::target().join("fuzzing");
        let place = Self {
            grown: root.join("corpus").join(&target.name),
            committed: workspace().join("fuzz/corpus").join(&target.name),
            words: root.join("corpus").join(format!("{}.words", target.name)),
            log: root.join(format!("{}.log", target.name)),
            findings: root.join("findings").join(&target.name),
        };
        for directory in [&place.grown, &place.committed, &place.findings] {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        Ok(place)
    }
}

fn fuzzer(program: &Path, target: &Target) -> Command {
    let mut command = Command::new(program);
    command.env("FERNPASS_FUZZ_TARGET", &target.name);
    command.args([format!("-max_len={}", target.longest), format!("-timeout={TIMEOUT}")]);
    command
}

/// Fuzzes a target; false if something was found.
fn one(program: &Path, target: &Target, seconds: u32) -> anyhow::Result<bool> {
    let place = Place::of(target)?;
    run(helper().args(["seed", &target.name]).arg(&place.grown))?;
    let log = fs::File::create(&place.log)
        .with_context(|| format!("cannot write {}", place.log.display()))?;
    let mut command = fuzzer(program, target);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", place.findings.display()))
        .arg("-print_final_stats=1");
    if fs::metadata(&place.words).is_ok_and(|file| file.len() > 0) {
        command.arg(format!("-dict={}", place.words.display()));
    }
    let child = command
        .args([&place.grown, &place.committed])
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let (status, processor) = wait(child)?;
    let text = String::from_utf8_lossy(&fs::read(&place.log).unwrap_or_default()).into_owned();
    if !status.success() {
        let begin = text.rfind("thread '").or_else(|| text.rfind("==")).unwrap_or(0);
        eprintln!("{}", &text[begin..]);
        eprintln!(
            "{}: something was found. Its input is in {}; to see it again:\n  cargo run --bin fernpass-fuzz -- replay {} FILE\n\
             Once it is mended, commit the input as fuzz/corpus/{}/{FOUND}…: every test run feeds it then.",
            target.name,
            place.findings.display(),
            target.name,
            target.name
        );
        return Ok(false);
    }
    println!("{}: {}", target.name, summary(&text, processor));
    Ok(true)
}

/// Waits for a child: how it ended, and for how long it had a processor, which is less than the clock says on a busy machine.
fn wait(mut child: Child) -> anyhow::Result<(ExitStatus, Duration)> {
    let process = Path::new("/proc").join(child.id().to_string());
    // Until it is waited for, it is there, and its time with it.
    while !has_ended(&process) {
        thread::sleep(Duration::from_millis(200));
    }
    // Its first number is the time on a processor, in nanoseconds (Documentation/scheduler/sched-stats.rst).
    let told = fs::read_to_string(process.join("schedstat")).unwrap_or_default();
    let nanoseconds = told.split_whitespace().next().and_then(|first| first.parse().ok());
    let status = child.wait().context("cannot wait for the fuzzer")?;
    Ok((status, Duration::from_nanos(nanoseconds.unwrap_or(0))))
}

/// Whether a child has ended, by its state in proc_pid_stat(5), behind its name in brackets; also where nothing is told of it.
fn has_ended(process: &Path) -> bool {
    let told = fs::read_to_string(process.join("stat")).unwrap_or_default();
    told.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['Z', 'X']))
}

/// What libFuzzer told of its work, in a line.
fn summary(log: &str, processor: Duration) -> String {
    let stat = |name: &str| {
        let line = log.lines().rev().find_map(|line| line.strip_prefix(&format!("stat::{name}:")));
        line.map_or("?", str::trim).to_owned()
    };
    let status = log.lines().rev().find(|line| line.contains(" cov: ")).unwrap_or_default();
    let after = |word: &str| {
        status.split_once(word).and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or("?")
    };
    format!(
        "{} inputs in {} s of a processor, {} a second, {} edges reached, nothing found",
        stat("number_of_executed_units"),
        processor.as_secs(),
        stat("average_exec_per_sec"),
        after(" cov: ")
    )
}

/// Leaves in the committed corpus what reaches all edges that anything reaches, and what was found.
fn minimise(program: &Path, target: &Target) -> anyhow::Result<()> {
    let place = Place::of(target)?;
    let merged = place.grown.with_extension("merged");
    let _ = fs::remove_dir_all(&merged);
    fs::create_dir_all(&merged).with_context(|| format!("cannot make {}", merged.display()))?;
    let log = fs::File::create(&place.log)
        .with_context(|| format!("cannot write {}", place.log.display()))?;
    // How often an edge is taken does not count: the corpus is there to notice what breaks.
    let mut command = fuzzer(program, target);
    command.args(["-merge=1", "-use_counters=0"]).arg(&merged);
    run(command.args([&place.committed, &place.grown]).stderr(log))?;
    for file in files(&place.committed)? {
        let name = file.file_name().unwrap_or_default();
        if !name.to_string_lossy().starts_with(FOUND) {
            fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
    }
    for file in files(&merged)? {
        let to = place.committed.join(file.file_name().unwrap_or_default());
        fs::copy(&file, &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    let all = files(&place.committed)?;
    let (inputs, bytes) = (all.len(), sizes(&all)?);
    println!("{}: {inputs} inputs, {bytes} bytes", target.name);
    Ok(())
}

/// The files of a directory.
fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>());
    entries.with_context(|| format!("cannot read {}", directory.display()))
}

/// Their bytes.
fn sizes(files: &[PathBuf]) -> anyhow::Result<u64> {
    let sizes = files.iter().map(|file| Ok(fs::metadata(file)?.len())).sum::<std::io::Result<_>>();
    sizes.context("cannot read the corpus")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_told_in_a_line() {
        let log = "#2 INITED cov: 3 ft: 4 corp: 1/1b\n#9 DONE   cov: 71 ft: 99 corp: 5/9b lim: 4 exec/s: 0 rss: 30Mb\n\
                   stat::number_of_executed_units: 1234\nstat::average_exec_per_sec:     56\n";
        let seconds = Duration::from_millis(21_500);
        assert_eq!(
            summary(log, seconds),
            "1234 inputs in 21 s of a processor, 56 a second, 71 edges reached, nothing found"
        );
        let nothing = summary("", Duration::ZERO);
        assert!(nothing.starts_with("? inputs in 0 s of a processor, ? a second"), "{nothing}");
    }

    #[test]
    fn work_is_done_side_by_side_until_something_fails() {
        let done = Mutex::new(Vec::new());
        let numbers: Vec<usize> = (0..100).collect();
        let each = |n: &usize| {
            anyhow::ensure!(*n != 50, "the fiftieth");
            done.lock().unwrap().push(*n);
            Ok(())
        };
        side_by_side(&numbers[..50], 3, each).unwrap();
        let mut all = std::mem::take(&mut *done.lock().unwrap());
        all.sort_unstable();
        assert_eq!(all, numbers[..50]);
        let failed = side_by_side(&numbers, 1, each).unwrap_err().to_string();
        assert_eq!((failed.as_str(), done.lock().unwrap().len()), ("the fiftieth", 50));
    }

    #[test]
    fn a_childs_time_on_a_processor_is_told() {
        let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let (status, processor) =
            wait(Command::new("sh").args(["-c", busy]).spawn().unwrap()).unwrap();
        assert!(status.success() && processor > Duration::from_millis(20), "{processor:?}");
    }
}
