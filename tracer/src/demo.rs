//! Traffic for `amqptrace demo`: what a broker's neighbours do, made on loopback from addresses of 127.0.0.0/8, and a
//! stand-in for the broker where none listens.

pub mod frames;
pub mod sources;
pub mod stand_in;
