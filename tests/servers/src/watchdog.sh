# Ends a server and removes its files when the process that owns it has ended, however it ended.
#
# Arguments: 1 the server's own directory, removed in the end; 2 the same as a pattern of find(1); 3 a data directory
# elsewhere, kept, as a pattern ("" for none); 4 the signal that ends the server at once.
# Standard input: a pipe that the owner alone holds open. Its end of file is the owner's end.
home=$1 home_pattern=$2 data_pattern=$3 stop_signal=$4

# The terminal and the test runner signal whole process groups. Such a signal is for the owner, not for its watchdog.
trap '' HUP INT TERM

# The server's processes keep the working directory they were started in (see process_set.rs). Each thread is looked at:
# when the first of a killed process has ended, the others may still hold its sockets.
living() {
    find /proc/[0-9]*/task/*/cwd -maxdepth 0 \( -lname "$home_pattern" -o -lname "$home_pattern/*" \) \
        -printf '%h\n' 2>/dev/null
    if [ -n "$data_pattern" ]; then
        for thread in $(find /proc/[0-9]*/task/*/cwd -maxdepth 0 -lname "$data_pattern" -printf '%h\n' 2>/dev/null); do
            case $(readlink "$thread/exe") in */postgres) echo "$thread" ;; esac
        done
    fi
}

signal_all() {
    for thread in $(living); do
        process=${thread#/proc/}
        kill -"$1" "${process%%/*}" 2>/dev/null
    done
}

read -r _

signal_all CONT # a frozen process handles no signal but KILL
signal_all "$stop_signal"
tries=0
while [ -n "$(living)" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || signal_all KILL
    sleep 0.02
done
rm -rf -- "$home"
