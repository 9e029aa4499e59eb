<?php
// mysqli over a persistent connection: SELECT with the token as a literal, K times.
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$token = substr($path, 3);
$count = intval($_GET['k'] ?? '1');
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
$database = new mysqli('p:127.0.0.1', 'root', '', '', intval(getenv('DATABASE_PORT')));
for ($i = 0; $i < $count; $i++) {
    $database->query("SELECT SLEEP(0.01), '$token/$i'")->fetch_all();
}
header('Content-Type: text/plain');
header('Content-Length: 2');
echo 'ok';
