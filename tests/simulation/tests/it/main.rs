//! The core (outbox and consumer, with the storage's own steps) on simulated ports: seeded, in virtual time, with
//! crashes at every point where a process touches the world.

mod broker;
mod chaos;
mod client;
mod crashes;
mod database;
mod event_counts;
mod faults;
mod invariants;
mod processes;
mod random;
mod sabotage;
mod scenario;
mod seeds;
mod simulation;
mod workload;
mod world;
