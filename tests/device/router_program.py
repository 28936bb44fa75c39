"""A small router: passes each connection on to the port in its configuration, which it reads again on SIGHUP.

Connections that are open stay where they are, as behind any proxy that reloads without a restart.
"""

import asyncio
import signal
import sys
from pathlib import Path


class Router:
    def __init__(self, configuration: Path) -> None:
        self.configuration = configuration
        self.upstream = 0
        self.read_again()

    def read_again(self) -> None:
        self.upstream = int(self.configuration.read_text().split("=")[1]) if self.configuration.exists() else 0

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self.copy(reader, there_writer), self.copy(there_reader, writer))

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            writer.close()


async def main(port: int, configuration: Path) -> None:
    router = Router(configuration)
    server = await asyncio.start_server(router.pass_on, "127.0.0.1", port)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, router.read_again)
    print("listening", flush=True)  # noqa: T201 - the answer
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
