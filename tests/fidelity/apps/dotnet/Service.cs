// A service that turns GET /r/TOKEN?k=K&par=0|1 into K calls GET http://BACKEND/b/TOKEN/I: async sockets in front,
// HttpClient behind (--style async), or a thread a connection that blocks in all it does (--style threads).
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

static class Service
{
    static readonly Dictionary<string, string> Options = new Dictionary<string, string> { ["style"] = "async" };
    static readonly HttpClient Client = new HttpClient(new SocketsHttpHandler { MaxConnectionsPerServer = 64, UseProxy = false });
    static readonly ConcurrentBag<Socket> Idle = new ConcurrentBag<Socket>();

    static async Task Call(string path)
    {
        using (var response = await Client.GetAsync("http://" + Options["backend"] + path))
        {
            await response.Content.ReadAsByteArrayAsync();
            response.EnsureSuccessStatusCode();
        }
    }

    /// One call over a pooled blocking socket; the answer is head and body of at most 4 KiB with a Content-Length.
    static void CallBlocking(string path)
    {
        if (!Idle.TryTake(out Socket socket))
        {
            var parts = Options["backend"].Split(':');
            socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            socket.Connect(IPAddress.Parse(parts[0]), int.Parse(parts[1]));
        }
        socket.Send(Encoding.ASCII.GetBytes("GET " + path + " HTTP/1.1\r\nHost: backend\r\n\r\n"));
        var buffer = new byte[4096];
        int have = 0, end = -1, length = 0;
        while (end < 0 || have < end + length)
        {
            int got = socket.Receive(buffer, have, buffer.Length - have, SocketFlags.None);
            if (got <= 0) throw new IOException("backend closed");
            have += got;
            string text = Encoding.ASCII.GetString(buffer, 0, have);
            int head = text.IndexOf("\r\n\r\n");
            if (end < 0 && head >= 0)
            {
                end = head + 4;
                var line = text.Split(new[] { "\r\n" }, StringSplitOptions.None)
                    .First(one => one.StartsWith("Content-Length:", StringComparison.OrdinalIgnoreCase));
                length = int.Parse(line.Split(':')[1]);
            }
        }
        Idle.Add(socket);
    }

    static (List<string> paths, bool parallel) Read(string target)
    {
        var halves = target.Split('?');
        int k = 1;
        bool parallel = false;
        foreach (var word in halves.Skip(1).SelectMany(query => query.Split('&')))
        {
            if (word.StartsWith("k=")) k = Math.Min(64, int.Parse(word.Substring(2)));
            else if (word == "par=1") parallel = true;
        }
        var token = halves[0].Substring("/r/".Length);
        return (Enumerable.Range(0, k).Select(i => "/b/" + token + "/" + i).ToList(), parallel);
    }

    static readonly byte[] Answer = Encoding.ASCII.GetBytes("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n");

    static async Task Serve(Socket socket)
    {
        using (socket)
        {
            var buffer = new byte[8192];
            int have = 0;
            while (true)
            {
                int got = await socket.ReceiveAsync(new ArraySegment<byte>(buffer, have, buffer.Length - have), SocketFlags.None);
                if (got <= 0) return;
                have += got;
                string text = Encoding.ASCII.GetString(buffer, 0, have);
                if (!text.EndsWith("\r\n\r\n")) continue;
                have = 0;
                var (paths, parallel) = Read(text.Split(' ')[1]);
                if (parallel) await Task.WhenAll(paths.Select(Call));
                else foreach (var path in paths) await Call(path);
                await socket.SendAsync(new ArraySegment<byte>(Answer), SocketFlags.None);
            }
        }
    }

    static void ServeBlocking(Socket socket)
    {
        using (socket)
        {
            var buffer = new byte[8192];
            int have = 0;
            while (true)
            {
                int got = socket.Receive(buffer, have, buffer.Length - have, SocketFlags.None);
                if (got <= 0) return;
                have += got;
                string text = Encoding.ASCII.GetString(buffer, 0, have);
                if (!text.EndsWith("\r\n\r\n")) continue;
                have = 0;
                foreach (var path in Read(text.Split(' ')[1]).paths) CallBlocking(path);
                socket.Send(Answer);
            }
        }
    }

    static void Main(string[] words) => Run(words).Wait();

    static async Task Run(string[] words)
    {
        for (int i = 0; i + 1 < words.Length; i += 2) Options[words[i].Substring(2)] = words[i + 1];
        var listener = new TcpListener(IPAddress.Loopback, int.Parse(Options["port"]));
        listener.Start(1024);
        while (true)
        {
            var socket = await listener.AcceptSocketAsync();
            socket.NoDelay = true;
            if (Options["style"] == "threads") new Thread(() => ServeBlocking(socket)) { IsBackground = true }.Start();
            else _ = Serve(socket).ContinueWith(ended => ended.Exception?.Handle(error => true));
        }
    }
}
