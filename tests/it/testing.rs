//! What tests of programs are given, tested: tokens by name, callers without tokens, a clock by hand, the inventory of routes.

mod authority;
mod callers;
mod inventory;
