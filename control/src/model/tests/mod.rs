//! What the tables should hold, and the way there, for whole configurations.

mod directory;
mod health;
mod world;

use world::World;
