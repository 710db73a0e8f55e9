# shellcheck shell=bash
# What the scripts of this folder share: options, reading and changing Azure with `az`, errors that say what to do.
# It is sourced. A script calls `option` for each option, `parse "$@"`, then `look` (reads), `change` (writes), `die`.

script=${0##*/}
declare -A opt=() option_kind=() option_words=()
option_order=()
readonly mark='bgp-agent' # the tag of what these scripts made; remove.sh takes out nothing without it
changes=0
complaint=$(mktemp)
trap 'rm -f "$complaint"' EXIT

# die WHAT WHERE REMEDY: end with exit code 1. Where it is a refusal of Azure's, its words stand in $complaint.
die() {
  {
    printf '%s: %s\n  where:  %s\n' "$script" "$1" "$2"
    [ ! -s "$complaint" ] || sed 's/^/  az said: /' "$complaint" | head -20
    printf '  remedy: %s\n' "$3"
  } >&2
  exit 1
}

say() { printf '%s\n' "$*" >&2; }

# usage_error WORDS: end with exit code 2.
usage_error() {
  printf '%s: %s\n  remedy: %s --help has every option\n' "$script" "$1" "$script" >&2
  exit 2
}

# --- options ---------------------------------------------------------------------------------------------------------
# option NAME KIND DEFAULT WORDS. KIND: one, many, flag; `needed` and `needed-many` have no default. Each has a variable
# in the environment: --route-server is AZ_ROUTE_SERVER; several values are separated by spaces.
option() {
  local variable=AZ_${1^^}
  variable=${variable//-/_}
  option_order+=("$1")
  option_kind[$1]=$2
  option_words[$1]=$4${3:+ (default: $3)}
  opt[$1]=${!variable:-$3}
}

# parse PURPOSE "$@": fill `opt`; several values stand in one line, separated by spaces.
parse() {
  local purpose=$1 name given=' '
  shift
  option subscription one '' 'the subscription, name or ID; otherwise the one that az uses'
  option dry-run flag '' 'look, change nothing, and print the az commands that would run'
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) help "$purpose" && exit 0 ;;
      -g) name=resource-group ;;
      --*) name=${1#--} ;;
      *) usage_error "$1 is no option" ;;
    esac
    [ -n "${option_kind[$name]-}" ] || usage_error "--$name is no option of this script"
    if [ "${option_kind[$name]}" = flag ]; then
      opt[$name]=yes
      shift
      continue
    fi
    [ $# -gt 1 ] || usage_error "--$name needs a value"
    case ${option_kind[$name]} in
      *many) # the command line takes the place of the environment
        [[ $given == *" $name "* ]] || opt[$name]=
        opt[$name]+=${opt[$name]:+ }$2 ;;
      *) opt[$name]=$2 ;;
    esac
    given+="$name "
    shift 2
  done
  for name in "${option_order[@]}"; do
    [[ ${option_kind[$name]} != needed* || -n ${opt[$name]} ]] || usage_error "--$name is needed"
    case ${option_kind[$name]}:${opt[$name]} in flag:no | flag:0 | flag:false) opt[$name]= ;; esac
  done
  command -v az >/dev/null ||
    die 'there is no az' 'this machine' 'install the Azure CLI and log in: https://learn.microsoft.com/cli/azure'
  [ -z "${opt[subscription]}" ] || subscription=(--subscription "${opt[subscription]}")
}
subscription=()

help() {
  local name value variable
  printf '%s\n\nUsage: %s [OPTION]...\n\n' "$1" "$script"
  for name in "${option_order[@]}"; do
    case ${option_kind[$name]} in
      flag) value= ;; *many) value=' VALUE (may be repeated)' ;; *) value=' VALUE' ;;
    esac
    [[ ${option_kind[$name]} != needed* ]] || value+=' (needed)'
    variable=AZ_${name^^}
    printf '  --%s%s, $%s\n      %s\n' "$name" "$value" "${variable//-/_}" "${option_words[$name]}"
  done
  printf '  -h, --help\n\nWhat is right already is left as it is: a second run changes nothing.\n'
  printf 'Exit code: 0 done, 1 refused or failed (with the remedy), 2 wrong usage.\n'
}

# --- Azure -----------------------------------------------------------------------------------------------------------
# look VARIABLE WHAT AZ-ARGUMENTS...: what az prints (tsv); empty where there is no such thing. A read that fails is not
# taken for "there is none": it ends the script.
look() {
  local -n looked=$1
  local what=$2 code=0
  shift 2
  looked=$(az "$@" "${subscription[@]}" --only-show-errors --output tsv 2>"$complaint") || code=$?
  case $code in
    0) ;;
    3) looked= ;; # az: not found
    *) die "cannot read $what" "az $*" 'log in (az login), and see that your account may read it' ;;
  esac
  : >"$complaint"
}

# attempt WHAT AZ-ARGUMENTS...: one write, tried again while another operation holds the object. Fails with Azure's words
# in $complaint.
attempt() {
  local what=$1 left=${AZ_ATTEMPTS:-20}
  shift
  changes=$((changes + 1))
  if [ -n "${opt[dry-run]}" ]; then
    say "would run:$(printf ' %q' az "$@" "${subscription[@]}")"
    return
  fi
  say "$what:$(printf ' %q' az "$@" "${subscription[@]}")"
  until az "$@" "${subscription[@]}" --only-show-errors --output none 2>"$complaint"; do
    left=$((left - 1))
    if ! grep -qE "$passing" "$complaint" || [ "$left" = 0 ]; then
      return 1
    fi
    say "  $(head -c 300 "$complaint" | tr '\n' ' '): again in ${AZ_PAUSE:-15} s"
    sleep "${AZ_PAUSE:-15}"
  done
  : >"$complaint"
}

# change WHAT REMEDY AZ-ARGUMENTS...: a write that has to succeed.
change() {
  local what=$1 remedy=$2
  shift 2
  attempt "$what" "$@" || die "could not do it: $what" "az $*" "$remedy"
}

# What passes by itself: somebody else is writing, a quota, or what was made a moment ago is not known everywhere yet.
readonly passing='RetryableError|AnotherOperation|ConflictError|ReferencedResourceNotProvisioned|TooManyRequests|PrincipalNotFound|RoleDefinitionDoesNotExist'

# done_: the last line of a script.
done_() {
  if [ -n "${opt[dry-run]}" ] && [ "$changes" != 0 ]; then
    say "$script: $changes changes would be made; none was (--dry-run)"
  elif [ "$changes" = 0 ]; then
    say "$script: everything is as it should be; nothing was changed"
  else
    say "$script: done, $changes changes"
  fi
}

# stop_in_dry_run: what follows needs what would have been made before it.
stop_in_dry_run() {
  [ -z "${opt[dry-run]}" ] || { done_; exit 0; }
}
