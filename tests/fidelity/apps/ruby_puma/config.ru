# Rack with Net::HTTP, a connection a thread. ENV BACKEND=HOST:PORT.
require 'net/http'

HOST, PORT = ENV.fetch('BACKEND').split(':')

run(lambda do |env|
  token = env['PATH_INFO'][3..]
  count = (env['QUERY_STRING'][/k=(\d+)/, 1] || '1').to_i
  connection = (Thread.current[:connection] ||= Net::HTTP.new(HOST, PORT.to_i).tap do |http|
    http.keep_alive_timeout = 60
    http.start
  end)
  count.times { |i| connection.get("/b/#{token}/#{i}").body }
  [200, { 'Content-Type' => 'text/plain', 'Content-Length' => '2' }, ['ok']]
end)
