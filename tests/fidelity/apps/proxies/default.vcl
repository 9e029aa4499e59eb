vcl 4.1;
backend up {
    .host = "@HOST@";
    .port = "@BACKEND_PORT@";
}
sub vcl_recv {
    return (pass);
}
