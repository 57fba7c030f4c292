# Sourced. private_apt DIR "ARCH…" SUITE…: Debian's indexes of other architectures below DIR, apart from the system's own;
# exports APT_CONFIG, so that apt-get and apt-cache use them. SUITE: bookworm,
# bookworm-security, or trixie@armhf for one architecture alone.

# Where this machine gets its own packages from, up to /debian; MIRROR=URL says otherwise, as on Ubuntu.
debian_mirror() {
    mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed -n 's,/debian/*$,,p' | head -1)}
    [ -n "$mirror" ] || { echo "error: no source of Debian packages here; name a mirror: MIRROR=http://HOST (its /debian)" >&2; return 1; }
    echo "$mirror"
}

private_apt() {
    apt=$1/apt arches=$(echo "$2" | tr ' ' ,)
    shift 2
    native=$(dpkg --print-architecture)
    mirror=$(debian_mirror)
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
    for suite in "$@"; do
        case $suite in
            *@*) only=${suite#*@} suite=${suite%@*} ;;
            *) only=$arches ;;
        esac
        case $suite in
            *-security) echo "deb [arch=$only] $mirror/debian-security $suite main" ;;
            *) echo "deb [arch=$only] $mirror/debian $suite main" ;;
        esac
    done > "$apt/sources.list"
    touch "$apt/status"
    cat > "$apt/apt.conf" <<CONF
APT::Architecture "$native";
APT::Architectures { "$native"; $(echo "$arches" | tr , '\n' | sed 's/.*/"&";/' | tr '\n' ' ')};
Dir::State "$apt"; Dir::State::lists "$apt/lists"; Dir::State::status "$apt/status";
Dir::Cache "$apt/cache"; Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "$apt/parts";
Acquire::Languages "none"; APT::Sandbox::User "root";
CONF
    export APT_CONFIG="$apt/apt.conf"
    echo "+ apt-get update, of $* for $arches" >&2
    apt-get update -qq >&2 || echo "some of Debian's indexes did not come; what came may do" >&2
}
