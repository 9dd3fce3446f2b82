mod destination_away;
mod exactly_once;
mod fake;
mod files;
mod group_contents;
