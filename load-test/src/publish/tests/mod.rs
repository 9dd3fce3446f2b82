mod exactly_once;
mod fake;
mod files;
mod portions;
mod sink_away;
