# Ends a server and removes its files when the process that owns it is gone, in whatever way it went.
#
# Arguments: 1 the server's own directory, removed in the end; 2 the same as a pattern of find(1); 3 a data directory
# elsewhere, kept, as a pattern ("" for none); 4 the signal that ends the server quickly.
# Standard input: a pipe that the owner alone holds open. Its end of file is the owner's end.
home=$1 home_pattern=$2 data_pattern=$3 quickly=$4

# The owner's terminal and its test runner signal whole groups; what they mean is the owner, not its watchdog.
trap '' HUP INT TERM

# The server's processes keep the working directory they were started in (see processes.rs). Each thread is looked at:
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

signal_all CONT # a frozen process would not hear of a gentler signal than KILL
signal_all "$quickly"
tries=0
while [ -n "$(living)" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || signal_all KILL
    sleep 0.02
done
rm -rf -- "$home"
