#!/usr/bin/env bash
# A folder that make fills, and the list of what it made there (FOLDER/.made-by-seqres): nothing else is ever replaced or removed.
#   scripts/made.sh odd NAME               say so when make would take the name apart
#   scripts/made.sh begin FOLDER           make the folder; 1 when it holds files and no list
#   scripts/made.sh take FOLDER NAME       put NAME on the list unless somebody else's file is there; prints --force then
#   scripts/made.sh label NAME             pass lines on, each after NAME
#   scripts/made.sh clean FOLDER           remove what is on the list, then the folder if it is empty; 1 without a list
#   scripts/made.sh clean-below FOLDER     the same for FOLDER and those folders in it that have a list
#   scripts/made.sh clean-given FOLDER     the same, but 1 when there is none
#   scripts/made.sh clean-venv FOLDER      remove an environment that make setup created
set -euo pipefail
shopt -s nullglob dotglob
list=.made-by-seqres

# a name that begins with a dash is no option
folder_of() { case $1 in '') echo "an empty name of a folder" >&2; exit 1 ;; /*) echo "$1" ;; *) echo "./$1" ;; esac; }
is_empty() { local inside=("$1"/*); [ ${#inside[@]} -eq 0 ]; }
refuse() { echo "$*" >&2; exit 1; }

odd() {
  case $1 in '' | -* | *[[:space:]:\;\#%\$\\\&\|*?\"\'\`\(\)\<\>\[\~=]*) echo "make needs a name without blanks and special signs, got '$1'" ;; esac
}

begin() {
  local folder=$1
  [ ! -e "$folder" ] || [ -d "$folder" ] || refuse "$folder is no folder"
  [ ! -d "$folder" ] || [ -e "$folder/$list" ] || is_empty "$folder" || refuse "$folder holds files that were not" \
    "made by pipeline.mk: choose another OUT (or, where they may be replaced: touch $(printf %q "$folder/$list"))"
  mkdir -p -- "$folder"
  [ -e "$folder/$list" ] || : > "$folder/$list"
}

take() {
  if ! grep -qxF -e "$2" "$1/$list"; then
    [ ! -e "$1/$2" ] || return 0 # seqres will refuse to replace it
    printf '%s\n' "$2" >> "$1/$list"
  fi
  echo --force
}

# ends with its input: a stage that is interrupted still says so
label() {
  local line
  trap '' INT TERM
  while IFS= read -r line || [ -n "$line" ]; do printf '%-16s %s\n' "$1:" "$line"; done
}

clean() {
  local folder=$1 name path beside
  [ -d "$folder" ] || return 0
  [ -e "$folder/$list" ] || is_empty "$folder" || refuse "$folder was not made by make, so nothing in it is removed"
  [ -e "$folder/$list" ] || return 0
  while IFS= read -r name; do
    case /$name/ in */../* | //*) continue ;; esac
    path=$folder/$name beside=$(dirname -- "$path")/.$(basename -- "$path")
    rm -f -- "$path" "$beside.resume" "$beside.rounds" "$beside".*.tmp
    clean_page "${path%.h5}_figures"
  done < "$folder/$list"
  clean_page "$folder/report"
  rm -rf -- "$folder/.flags"
  rm -f -- "$folder/$list"
  [ ! -d "$folder/eval" ] || ! is_empty "$folder/eval" || rmdir -- "$folder/eval"
  remove_empty "$folder"
}

# the pages of visualize-attention and report: they end with a list of what lies beside them
clean_page() {
  local name
  [ -f "$1/index.html" ] && grep -q '^<!-- files of this page: ' "$1/index.html" || return 0
  for name in $(sed -n 's/^<!-- files of this page: \(.*\) -->$/\1/p' "$1/index.html"); do rm -f -- "$1/${name##*/}"; done
  rm -f -- "$1/index.html"
  remove_empty "$1"
}

remove_empty() {
  if ! is_empty "$1"; then
    echo "left in $1, as make did not make it:" "$(cd -- "$1" && ls -A | head -n 5 | tr '\n' ' ')"
  elif [ ! -L "${1%/}" ]; then # what is behind a link was there before
    rmdir -- "$1" 2> /dev/null || true
  fi
}

clean_below() {
  local folder=$1 inside found=
  [ -d "$folder" ] || return 0
  shopt -u dotglob # such a folder has a name that can be seen
  for inside in "$folder"/*/; do
    [ ! -e "$inside$list" ] || { clean "${inside%/}"; found=1; }
  done
  [ ! -e "$folder/$list" ] || { clean "$folder"; found=1; }
  [ -d "$folder" ] || return 0
  shopt -s dotglob
  if [ -n "$found" ]; then
    remove_empty "$folder"
  elif ! is_empty "$folder"; then
    [ "${2:-}" != given ] || refuse "$folder was not made by make, so nothing in it is removed"
    echo "left: $folder, as make did not make it"
  fi
}

clean_venv() {
  if [ -e "$1/.seqres-made" ]; then rm -rf -- "$1"; elif [ -e "$1" ]; then echo "left: $1, as make setup did not create it"; fi
}

action=$1
case $action in odd | label) "$action" "$2"; exit ;; esac
folder=$(folder_of "$2")
case $action in
  begin | clean) "$action" "$folder" ;;
  take) take "$folder" "$3" ;;
  clean-below) clean_below "$folder" ;;
  clean-given) clean_below "$folder" given ;;
  clean-venv) clean_venv "$folder" ;;
  *) refuse "no such action: $action" ;;
esac
