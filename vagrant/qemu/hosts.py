"""Hosts as qemu processes, and the network between them.

A host runs commands for us through a serial port, so that it can be asked whatever happens to its network. The network is a
bridge for each segment, in the network namespace that this process is in; the client is that namespace itself.
"""

import base64
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

# How long a host may take to boot: emulated, on a busy machine with one core for each.
BOOT_S = 240
# How long a command may take that is nothing special.
COMMAND_S = 60
MEMORY_MIB = 320
NICE = -5

# Each segment: the bridge, the client's address there, and which of a host's interfaces are in it. A host has several interfaces in one
# segment only as a bond: Linux answers for each of its addresses on all of its interfaces.
SEGMENTS = {
    "front": ("10.77.0.254/24", [0]),
    "bonded": ("10.78.0.254/24", [1, 2]),
    "routed": ("10.79.0.254/24", [3]),
}


class LabError(Exception):
    """What was expected did not happen."""


class TwoOwners(LabError):
    """Two hosts answered for an address."""


def run(*command):
    """Runs a command of this machine, which has to succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def make_segments():
    """The bridges. Multicast is flooded: what a switch does with it is not what is tried here."""
    run("ip", "link", "set", "lo", "up")
    for name, (address, _) in SEGMENTS.items():
        run("ip", "link", "add", name, "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        run("ip", "address", "add", address, "dev", name)
        run("ip", "link", "set", name, "up")


def accelerator():
    """KVM where the processor has it; the device alone says nothing, it can be there and not work."""
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    if ("vmx" in flags or "svm" in flags) and os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "kvm"
    return "tcg"


class Host:
    """One host: `number` is the last byte of its addresses."""

    def __init__(self, number, image, parcel, work):
        self.number = number
        self.name = f"host{number}"
        self._image = image
        self._parcel = parcel
        self._folder = work / self.name
        self._folder.mkdir()
        self._disk = self._folder / "disk"
        self._process = None
        self._is_off = True
        self._frozen = False
        self._shell = None
        self._received = b""
        self._commands = 0
        run("cp", "--sparse=always", str(image / "root.img"), str(self._disk))
        for segment, (_, interfaces) in SEGMENTS.items():
            for interface in interfaces:
                run("ip", "tuntap", "add", self._tap(interface), "mode", "tap")
                run("ip", "link", "set", self._tap(interface), "master", segment, "up")

    def _tap(self, interface):
        return f"{self.name}.{interface}"

    def mac(self, interface=0):
        """An interface's own address."""
        return f"52:54:00:77:{interface:02x}:{self.number:02x}"

    # --- power ---

    def start(self):
        """Switches it on; `wait_until_ready` says when it is up."""
        self._is_off = False
        shell, monitor = self._folder / "shell", self._folder / "monitor"
        for path in (shell, monitor):
            path.unlink(missing_ok=True)
        command = [
            "qemu-system-x86_64", "-name", self.name, "-machine", f"q35,accel={accelerator()}", "-smp", "1",
            "-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-display", "none",
            # A reset ends qemu, and the host is switched on again. Reset within the same qemu, an emulated one needs minutes at times.
            "-no-reboot",
            "-kernel", str(self._image / "vmlinuz"), "-initrd", str(self._image / "initrd.img"),
            "-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet mitigations=off",
            "-serial", f"file:{self._console()}",
            "-monitor", f"unix:{monitor},server=on,wait=off",
            "-chardev", f"socket,id=shell,path={shell},server=on,wait=off",
            "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=shell,name=lab",
            "-drive", f"if=virtio,file={self._disk},format=raw,cache=unsafe",
            "-drive", f"if=virtio,file={self._parcel},format=raw,readonly=on",
        ]
        for interface in sorted(i for _, interfaces in SEGMENTS.values() for i in interfaces):
            tap = f"tap,id=n{interface},ifname={self._tap(interface)},script=no,downscript=no"
            command += ["-netdev", tap, "-device", f"virtio-net-pci,netdev=n{interface},mac={self.mac(interface)},romfile="]
        with open(self._folder / "qemu.log", "ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        # A host that waits for its turn is a slow host: it goes before what else this machine does.
        os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)
        self._shell = self._connect(shell)
        self._received = b""
        threading.Thread(target=self._go_on_after_reset, args=(self._process,), daemon=True).start()

    def _go_on_after_reset(self, process):
        # Qemu ends so by itself; what else ends it is to be seen.
        if process.wait() == 0 and not self._is_off:
            self.start()

    def _connect(self, path):
        deadline = time.monotonic() + COMMAND_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise LabError(f"{self.name}: qemu ended:\n{(self._folder / 'qemu.log').read_text()}")
            try:
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(str(path))
                return connection
            except OSError:
                connection.close()
                time.sleep(0.05)
        raise LabError(f"{self.name}: qemu opens no {path}")

    def is_running(self):
        """Whether it is on, and does not stand still."""
        return not self._is_off and not self._frozen

    def kill(self):
        """As if it were unplugged: qemu gets no chance to do anything."""
        self._is_off = True
        self._process.kill()
        self._process.wait()

    def freeze(self):
        """The whole host stands still, and its clocks have jumped when it goes on. Since when it does."""
        self._process.send_signal(signal.SIGSTOP)
        self._frozen = True
        while not stands_still(self._process.pid):
            time.sleep(0.001)
        return time.monotonic()

    def thaw(self):
        """Ends `freeze`."""
        self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def set_carrier(self, interface, on):
        """Plugs an interface's cable in or out."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(COMMAND_S)
            monitor.connect(str(self._folder / "monitor"))
            monitor.sendall(f"set_link n{interface} {'on' if on else 'off'}\n".encode())
            # The prompt comes once more when it is done.
            said = b""
            while said.count(b"(qemu)") < 2:
                said += monitor.recv(4096)

    # --- commands ---

    def wait_until_ready(self, unlike_boot=None):
        """Until it runs commands: in a boot that is another one than `unlike_boot`."""
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline:
            answer = self._ask("cat /proc/sys/kernel/random/boot_id", 2)
            if answer is not None and answer[1].strip() != unlike_boot:
                return answer[1].strip()
            time.sleep(0.1)
        raise LabError(f"{self.name}: not up after {BOOT_S} s; the end of its console:\n{self.console()}")

    def answers(self):
        """Whether it runs commands, if need be after those that it was asked for before."""
        return self._ask("true", COMMAND_S) is not None

    def try_run(self, command, timeout=COMMAND_S):
        """Exit code and output of a shell command."""
        answer = self._ask(command, timeout)
        if answer is None:
            raise LabError(f"{self.name}: no answer within {timeout} s: {command}\n{self.console()}")
        return answer

    def run(self, command, timeout=COMMAND_S):
        """Output of a shell command that has to succeed."""
        code, output = self.try_run(f"set -e\n{command}", timeout)
        if code != 0:
            raise LabError(f"{self.name}: exit code {code}: {command}\n{output}")
        return output

    def write(self, path, text):
        """Writes a file."""
        content = base64.b64encode(text.encode()).decode()
        self.run(f"mkdir -p $(dirname {path}); base64 -d <<<{content} >{path}")

    def reboot(self):
        """Begins to go down in good order. What asks for that is itself ended by it, so nothing waits for its answer."""
        self.run("(sleep 1; systemctl reboot) >/dev/null 2>&1 &")

    def until(self, command, timeout=COMMAND_S):
        """Until a shell command succeeds."""
        deadline = time.monotonic() + timeout
        while True:
            code, output = self.try_run(command)
            if code == 0:
                return output
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: not within {timeout} s: {command}\n{output}")
            time.sleep(0.2)

    def _ask(self, command, timeout):
        """One command and its answer; none if it did not come in time, or the host went down meanwhile."""
        self._commands += 1
        name = str(self._commands)
        deadline = time.monotonic() + timeout
        try:
            # What an earlier boot has begun to read ends at the empty line.
            self._shell.sendall(f"\n{name} {base64.b64encode(command.encode()).decode()}\n".encode())
            while True:
                while b"\n" in self._received:
                    line, self._received = self._received.split(b"\n", 1)
                    words = line.decode(errors="replace").split(" ")
                    if words[0] == name and len(words) == 3:
                        return int(words[1]), base64.b64decode(words[2]).decode(errors="replace")
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self._shell], [], [], left)[0]:
                    return None
                received = self._shell.recv(65536)
                if not received:
                    return None
                self._received += received
        except ConnectionError:
            return None

    def _console(self):
        return self._folder / "console"

    def console(self):
        """The end of what it wrote to its console."""
        try:
            return "".join(self._console().read_text(errors="replace").splitlines(keepends=True)[-30:])
        except OSError:
            return ""


def stands_still(pid):
    """Whether each thread of a process is stopped."""
    try:
        stats = [(thread / "stat").read_text() for thread in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return False
    # The state is the first field after the name, which is in brackets.
    return all(stat.rsplit(")", 1)[1].split()[0] == "T" for stat in stats)


def make_parcel(path, packages):
    """What is handed to the hosts, as a disk that is a tar archive: each package under its new name."""
    folder = path.with_suffix(".d")
    folder.mkdir()
    for name, package in packages.items():
        shutil.copy(package, folder / name)
    run("tar", "-C", str(folder), "-cf", str(path), *packages)
    # A disk has whole sectors.
    os.truncate(path, (path.stat().st_size + 511) // 512 * 512)
