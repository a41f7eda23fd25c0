//! What the tables should hold, and the way there, for whole configurations.

mod directory;
mod world;

use world::World;
