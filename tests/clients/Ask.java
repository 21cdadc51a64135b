import java.net.HttpURLConnection;
import java.net.URI;

/** Prints the answer of an HTTPS server, by the JDK's own client and truststore. */
public class Ask {
    public static void main(String[] arguments) throws Exception {
        var connection = (HttpURLConnection) URI.create(arguments[0]).toURL().openConnection();
        System.out.println(connection.getResponseCode());
        System.out.println(new String(connection.getInputStream().readAllBytes()));
    }
}
