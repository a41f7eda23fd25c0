//! The tables that a daemon works on: found, made, made larger, or taken over from another version.

use std::sync::Arc;

use super::actor::Daemon;
use super::handle::Refusal;
use super::start::{StartError, recount};
use super::state::State;
use crate::config::Config;
use crate::loader::{
    Bpffs, Found, LoadError, Old, PacketLog, Pins, Program, Sizes, Tables, Writer, create, memory,
    wait,
};
use crate::migration::{Migration, Moved, Staged, Translation, health};
use crate::model::{Overrides, RouteView};
use crate::sessions::{give_back, settle};

/// What the contents of the tables depend on.
pub(super) struct Inputs {
    pub(super) config: Config,
    pub(super) overrides: Overrides,
    pub(super) routes: Arc<RouteView>,
}

/// A daemon's state, with tables that have all sessions there are.
pub(super) struct Begun {
    pub(super) state: State,
    /// The program, if sessions were moved, and it is on the interfaces.
    pub(super) program: Option<Program>,
    /// Why the tables are not as large as they should be.
    pub(super) not_grown: Option<LoadError>,
}

/// Makes of what was found the tables to work on.
pub(super) fn begin(
    bpffs: &Bpffs,
    found: Found,
    inputs: Inputs,
    log: PacketLog,
) -> Result<Begun, StartError> {
    let pins = Pins::under(bpffs);
    let wanted = inputs.config.gateway.max_sessions;
    let (tables, mut program) = match found {
        Found::Foreign(old) => return take_over(bpffs, *old, inputs, log),
        Found::Nothing => (Arc::new(create(bpffs, &pins, Sizes::for_sessions(wanted))?), None),
        Found::Own(tables) => {
            mend(&tables);
            (Arc::new(*tables), None)
        }
        Found::Moving(tables, old) => {
            let tables = Arc::new(*tables);
            mend(&tables);
            let held = Writer::open(&pins, Arc::clone(&tables))?.read()?;
            let from = old.pins().dir().display().to_string();
            let mut migration = Migration::resume(bpffs, *old, Arc::clone(&tables), &held, log)?;
            migration.run()?;
            let (program, moved) = migration.finish();
            tell(&format!("a move of sessions from {from} was finished"), &moved);
            (tables, program)
        }
    };
    let mut writer = Writer::open(&pins, Arc::clone(&tables))?;
    let (mut tables, mut not_grown) = (tables, None);
    if wanted > tables.sizes().sessions() {
        let sizes = Sizes::for_sessions(wanted).at_least(tables.sizes());
        match grow(bpffs, &writer.read()?, sizes, log) {
            Ok(grown) => (tables, writer, program) = (grown.tables, grown.writer, grown.program),
            // The sessions that there are go on.
            Err(e) => not_grown = Some(e),
        }
    }
    let Inputs { config, overrides, routes } = inputs;
    let state = State::new(config, overrides, routes, tables, writer)?;
    Ok(Begun { state, program, not_grown })
}

/// Finishes what a daemon that died left half done with sessions.
pub(super) fn mend(tables: &Tables) {
    settle(tables);
    match give_back(tables, wait) {
        Ok(0) => {}
        Ok(slots) => tracing::info!(slots, "an earlier daemon died while it carried sessions over"),
        Err(e) => {
            tracing::warn!("slots that an earlier daemon was writing cannot be given back: {e}")
        }
    }
}

/// Takes another version's sessions over.
fn take_over(bpffs: &Bpffs, old: Old, inputs: Inputs, log: PacketLog) -> Result<Begun, StartError> {
    let Inputs { config, overrides, routes } = inputs;
    let from = old.pins().dir().display().to_string();
    let sizes = Sizes::for_sessions(config.gateway.max_sessions.max(old.sessions().len() as u64));
    let staged = Staged::make(bpffs, &old, sizes)?;
    let begun = (|| {
        let writer = staged.name(&old)?;
        let tables = Arc::clone(&staged.tables);
        let mut state = State::new(config, overrides, routes, tables, writer)?;
        state.adopt(health(&old));
        state.reconcile()?;
        let translation = Translation::by_names(&old, &state.current);
        let migration = Migration::new(bpffs, old, &staged, translation, log)?;
        Ok::<_, StartError>((state, migration))
    })();
    let (state, mut migration) = begun.inspect_err(|_| {
        let _ = staged.pins.remove();
    })?;
    if let Err(e) = migration.run() {
        migration.abandon();
        return Err(e.into());
    }
    let (program, moved) = migration.finish();
    tell(&format!("sessions were taken over from {from}"), &moved);
    Ok(Begun { state, program, not_grown: None })
}

/// Larger tables, in use.
struct Grown {
    tables: Arc<Tables>,
    writer: Writer,
    program: Option<Program>,
}

/// Makes the tables larger: on failure nothing has changed, unless the new ones are in use already, and then the rest of the move is
/// left to the next start.
fn grow(
    bpffs: &Bpffs,
    held: &crate::model::Wanted,
    sizes: Sizes,
    log: PacketLog,
) -> Result<Grown, LoadError> {
    let (mut migration, writer) = Migration::grow(bpffs, held, sizes, log)?;
    if let Err(e) = migration.run() {
        if !migration.is_committed() {
            migration.abandon();
            return Err(e);
        }
        tracing::error!(
            "sessions are in the larger tables, but not all is done: {e}; a restart finishes it"
        );
    }
    let tables = Arc::clone(migration.tables());
    let (program, moved) = migration.finish();
    tell(&format!("the tables have room for {} sessions now", sizes.sessions()), &moved);
    Ok(Grown { tables, writer, program })
}

fn tell(what: &str, moved: &Moved) {
    let Moved { sessions, left_out, refused, swap } = *moved;
    tracing::info!(sessions, left_out, ?swap, "{what}");
    if refused > 0 {
        tracing::error!(
            refused,
            "sessions had no place within reach in the new tables, and are lost"
        );
    }
}

/// What a configuration does to the tables; `None` if they have room.
pub(crate) fn forecast(config: &Config, tables: &Tables) -> Option<String> {
    let room = tables.sizes().sessions();
    let wanted = config.gateway.max_sessions;
    (wanted > room).then(|| {
        let sizes = Sizes::for_sessions(wanted).at_least(tables.sizes());
        format!(
            "the tables grow from {room} to {} sessions: new ones of {} MB are made, and all sessions moved there, while packets are forwarded",
            sizes.sessions(),
            memory::bytes(sizes) >> 20
        )
    })
}

impl Daemon {
    /// Makes the tables as large as a configuration wants them, if they are smaller: true if they were.
    pub(super) async fn grow_for(&mut self, config: &Config) -> Result<bool, Refusal> {
        let state = &self.core.state;
        let wanted = config.gateway.max_sessions;
        if wanted <= state.tables.sizes().sessions() {
            return Ok(false);
        }
        let nothing =
            |e: &dyn std::fmt::Display| Refusal::Failed(format!("{e}; nothing was changed"));
        // Interfaces whose links are not found would go on with the tables of before.
        if let Some(why) = self.core.interfaces.unlinked() {
            return Err(nothing(&why));
        }
        // What is refused anyway needs no larger tables.
        state.writes_for(config).map_err(|e| nothing(&e))?;
        let sizes = Sizes::for_sessions(wanted).at_least(state.tables.sizes());
        let (bpffs, held, log) = (&self.core.bpffs, &state.current, self.core.log);
        // Seconds, for the verifier: others are answered meanwhile.
        let grown = tokio::task::block_in_place(|| grow(bpffs, held, sizes, log));
        let Grown { tables, writer, program } = grown.map_err(|e| nothing(&e))?;
        self.core.state.move_to(tables, writer);
        if let Some(mut program) = program {
            let messages = (log != PacketLog::Off).then(|| program.messages());
            // Whatever becomes of them: the one before has the tables of before.
            self.core.interfaces.go_on_with(program);
            if let Some(messages) = messages {
                messages.map_err(|e| Refusal::Failed(e.to_string()))?.run();
            }
        }
        recount(&self.core.state).await;
        Ok(true)
    }
}
