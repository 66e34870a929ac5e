//! State machines: any sequence of calls, predicted by a model that is as short as the promise.
//!
//! What fails is made shorter until it fails no more. Clocks are set by hand, so that it fails again. Models are written from
//! what the docs say, and use none of the decisions that they check.

mod limiter;
mod lockout;
mod rotation;
