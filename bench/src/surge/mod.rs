//! Monday, eight in the morning: all employees of forty authorities come online within a minute,
//! work, rekey, roam, lose a tenth of their concentrators, and leave in the evening.
//!
//! Packets are real, the gateway's program is where it always is, and the daemon is the real one;
//! clients and concentrators speak as much of WireGuard as the gateway can see.
//!
//! - [`timeline`]: how long everything takes; [`authority`]: who there is.
//! - [`client`], [`concentrator`]: what the peers do. They know neither sockets nor clocks.
//! - [`wire`]: frames; [`air`]: their ways to the gateway and back; [`socket`]: the `unsafe` of it.
//! - [`world`]: all peers together; [`employee`]: one of them, and what became of their data.
//! - [`ground`], [`config`]: namespaces and the gateway's configuration.
//! - [`watch`]: what is seen of the gateway; [`day`]: what happens; [`verdict`]: what must hold.

mod air;
mod authority;
mod client;
mod concentrator;
mod config;
mod day;
mod employee;
mod ground;
mod socket;
mod timeline;
mod verdict;
mod watch;
mod wire;
mod world;

use control::loader::Bpffs;

use self::air::Air;
use self::authority::Region;
use self::day::{Day, STEPS, await_neighbours};
use self::ground::Ground;
use self::timeline::Timeline;
use self::verdict::Verdict;
use self::watch::Watch;
use self::world::World;
use crate::daemon::Daemon;
use crate::place;
use crate::report::{Progress, Report};

/// Lets the day pass.
pub(crate) fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let timeline = Timeline::new(quick);
    let region = Region::new(timeline.employees);
    let ground = Ground::lay_out(region.concentrators())?;
    let bpffs = Bpffs::prepare(&place::bpffs("surge"))?;
    let socket = bpffs.path().with_extension("sock");
    let text = config::write(&region, &timeline, bpffs.path(), &socket);
    // Clients and concentrators have one processor, the daemon may have all.
    place::on_all_processors()?;
    let daemon = Daemon::start(&text, socket)?;
    place::on_one_processor()?;
    let mut watch = Watch::new(daemon, bpffs.path(), &region)?;
    await_neighbours(&watch)?;
    let (clients, concentrators) = ground.sockets()?;
    let mut world = World::new(Air::new(clients, concentrators), region, &timeline);
    let mut day = Day {
        world: &mut world,
        watch: &mut watch,
        ground: &ground,
        timeline,
        progress: Progress::new("surge", STEPS),
    };
    let moments = day.pass()?;
    let verdict = Verdict { world: &world, watch: &watch, ground: &ground, timeline, moments };
    verdict.report(report)?;
    verdict.hold()
}
