//! What the tables should hold, and the way there, for whole configurations.

mod directory;
mod events;
mod guard;
mod health;
mod shares;
mod steps;
mod world;

use world::World;
